"""Components: which tensors of a checkpoint make one matrix to measure, and those matrices.

`spec` (what a component is) · `simple` (one tensor, one matrix) · `circuits` (products that always act together).
"""
