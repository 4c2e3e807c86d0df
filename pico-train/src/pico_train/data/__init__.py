"""Data that every model sees in the same order.

`corpus` (the protocol, and opening what is configured) · `sources` (each kind) · `order` and `permutation` (which rows batch N holds) ·
`loader` (batches as tensors) · `sharded`, `reader`, `shards` (rows out of Parquet) · `prepare` and its parts (from
text to shards) · `tokenizer`.
"""
