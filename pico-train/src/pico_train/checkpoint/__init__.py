"""Checkpoints: either whole or absent, and cheap enough to take often.

`cadence` (when) · `state` (what is copied off the model) · `writer` (in the background, sealed by the manifest) ·
`tensorfile` and `storage` (how bytes reach the disk) · `resume` and `reconcile` (how a run goes on) · `changes` (under
which configuration it may) · `retention` (which training states stay) · `verify`, `inspect` (what is there) ·
`metrics_log`, `lock`, `signals`.
"""
