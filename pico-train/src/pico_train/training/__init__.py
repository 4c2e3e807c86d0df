"""One optimizer step after another: loss, optimizer, captures, and the loop around them.

Nothing here writes a file or prints: what a step measured and what a checkpoint will hold are handed on through plain
functions that the caller gives. Batches come in, measurements and snapshots go out.

`loop` (read this first), `step` (what is due and known of one) · `launch` (several processes as one run) · `engine`
(devices, the model on them) · `forward_backward` (one step's gradients) · `loss`, `optimizer`, `muon` · `divergence`
(what is not finite) · `capture` (activations and gradients) · `snapshot` (from a step to a checkpoint) · `health`,
`peak_flops` (what is logged), `tracking` (Weights & Biases) · `allocator` (memory on a CPU) · `coordinates`
(is μP kept).
"""
