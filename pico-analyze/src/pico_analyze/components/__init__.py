"""Components: which tensors of a checkpoint make one matrix to measure, and the matrices themselves."""
