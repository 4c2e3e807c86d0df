"""The engine: from questions to rows. The only room that brings stores, components, metrics and the table together.

`pipeline` (the way, from end to end) · `settings`, `outcome` (what goes in beside questions, what comes out) · `runs`
(each opened once) · `run_view`, `pairs`, `plan` (what a question means for a run) · `tasks` (how work is cut) ·
`executors`, `cluster` (where it is done) · `work` (what is sent there, and comes back) · `worker` (what is done
there) · `compute` (from tensors to values) · `rows` (from a value to a row) · `versions` (of what computes).
"""
