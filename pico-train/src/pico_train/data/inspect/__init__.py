"""Looking at data: what a step sees, what a corpus is made of, whether it is whole. Reads, and changes nothing.

`batches` (batch N of a run, as text) · `stats` (rows, tokens, sources) · `verify` (hashes, lengths, ids).
"""
