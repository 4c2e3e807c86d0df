"""Data that every model sees in the same order.

`corpus` (the protocol; opening what is configured) · `text`, `tokens`, `hub` (the sources) · `order`, `permutation`
(which rows batch N holds) · `loader` (batches as tensors) · `shard_corpus`, `sharded`, `reader`, `shards`, `footers`
(rows out of Parquet) · `prepare` and its parts (text to shards) · `tokenizer` · `view`, `stats`, `verify` (looking at
what is there).
"""
