"""Where runs are kept: a store turns one kind of place into sites and matrices, and computes nothing.

`base` (what every store answers) · `spec` (how a kind of run describes itself) · `opening` (which kind a path or
address is) · `local` (a run of pico-train on disk) · `safetensors` (one file, read by range) · `hub` (published runs) ·
`pico_v1` (runs of Pico 1.0) · `transformers` (model directories of any architecture that has a table of names) ·
`sites` (what matrices are called) · `run_names` (which run a name means) · `samples` (which token is which row) ·
`in_turn` (for threads) · `json_file`.
"""
