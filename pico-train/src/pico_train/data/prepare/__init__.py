"""From text to shards of token rows: read, choose, tokenize, pack, shuffle, write.

The same documents and the same recipe give the same bytes, whatever the number of processes and interruptions. What is
durable is noted in a journal, so that a killed preparation goes on where it was.

`pipeline` (the whole of it) · `inputs`, `reading`, `documents` (what is read) · `recipe` (what is made of it) ·
`encode`, `pack`, `tokenize` (text to rows) · `spool`, `journal` (on the way) · `shuffle` (rows to shards) · `budget`
(processes and memory).
"""
