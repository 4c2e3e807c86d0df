"""Models of other makers, and Pico's own, beyond reading their weights: run on rows of tokens, and made runs of Pico.

`capture.py` runs the models of a series one after the other and seals activations and gradients; `convert.py` seals
their weights. Both leave a run's directory, which every other command reads. `behave.py` probes what models do, and
leaves rows of the table. torch and transformers are an extra (`pico-analyze[torch]`) and are known by `loading.py`,
`running.py`, `watching.py`, `patterns.py`, `lens.py` and `repeats.py` alone, which are imported when a model is run.
"""
