"""Models of other makers: weights only, no code of the model is run.

`spec` (the kind of run) · `store` (a model directory) · `decoder` (what its configuration and names come to) ·
`architectures` (the table) · `architecture` (one entry of it: from names to sites) · `cuts` (from tensors to weights) ·
`geometry` (the numbers of a configuration) · `missing` (sites without a tensor).
"""
