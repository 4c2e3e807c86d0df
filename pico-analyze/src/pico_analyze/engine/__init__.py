"""The engine: from questions to rows. The only room that brings stores, components, metrics and the table together.

`pipeline` (the way, from end to end) · `run_view` and `plan` (what a question means for a run) · `compute` (doing it) ·
`executors` (where it is done) · `rows` (from a value to a row).
"""
