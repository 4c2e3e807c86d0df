"""From text to shards of token rows: read, choose, tokenize, pack, shuffle, write.

The same documents and the same recipe give the same bytes, whatever the number of processes and interruptions. What is
durable is noted in a journal, so that a killed preparation goes on where it was.

`pipeline` (the whole of it) · `files`, `inputs` (what is read, in which order) · `reading`, `kinds`, `opening`,
`plain_text`, `lines`, `tables`, `hub_text` (files of each kind) · `records`, `documents` (what comes out of them) ·
`recipe`, `holding_out` (what is made of it, what is held out) · `training_text` (for a tokenizer) · `encode`, `pack`,
`tokenize` (text to rows) · `spool`, `journal` (on the way) · `splitting`, `shuffle` (rows to shards) · `budget`
(processes and memory).
"""
