"""Where runs are kept: one protocol (`base`), one module per kind of run, and `opening`, which tells them apart."""
