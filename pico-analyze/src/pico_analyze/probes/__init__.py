"""What a model does, as numbers: the mathematics of each probe, and the page that says what it means.

The rule of this room: arrays and tensors in, numbers out. Nothing here opens a run, loads a model, registers a hook or
writes a row; `models/` does that (`behave.py`), and calls these functions with what it saw. torch is imported inside
functions alone, so that pages and the mathematics of stored arrays need no torch.

`spec` (what a probe is) · `induction` · `attention` · `token_losses` (n-grams, memorisation) · `acquisition` (what is
learned and forgotten over steps) · `distributions` (logit lens, distance of outputs).
"""
