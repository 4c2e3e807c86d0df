"""Data that every model sees in the same order.

A room of five: what is configured becomes a corpus of token rows (`corpus`), and a step becomes the rows it trains on
(`order`, `loader`). Text is turned into rows once, before training; training only reads rows. Nothing here knows of
models, devices or checkpoints; of the room of checkpoints, only how signals stop a process is used.

`corpus` (the protocol; opening what is configured) · `loader` (batches as tensors) · `order`, `permutation` (which rows
batch N holds) · `fingerprint` (are these the rows that the run was begun with) · `tokenizer` (trained,
copied or fetched) · `encoding` (text to ids) · `cutting`, `pattern` (where a text may be cut with its ids unchanged) ·
`cache` (what is kept between runs, and where) · `naming` (names in a sentence) · `retry` (asking the Hub again) ·
`sources/` (where rows come from) · `prepare/` (text to rows) · `shards/` (rows in Parquet files) · `inspect/` (looking
at what is there).
"""
