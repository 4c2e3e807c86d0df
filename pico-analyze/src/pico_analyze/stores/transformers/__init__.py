"""Models of other makers: weights only, no code of the model is run.

`spec` (the kind of run) · `store` (a model directory) · `architectures` (from each architecture's names to sites).
"""
