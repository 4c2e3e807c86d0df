"""Runs published on the Hugging Face Hub, read by range and pinned to commits.

`spec` (the kind of run) · `store` (the run) · `address` (``hf://org/name@…`` and what it resolves to) · `client`
(requests) · `files` (ranges, and
whether they were checked) · `block_cache` (pieces of files, by content).
"""
