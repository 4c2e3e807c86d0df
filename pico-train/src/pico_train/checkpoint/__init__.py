"""Checkpoints: either whole or absent, and cheap enough to take often.

Everything that is written into a run's directory while it trains, and everything that is asked of it afterwards, is
here; what a step computes is not. A checkpoint is handed over as one `CheckpointContents`, copied off the model, and
sealed by its manifest.

`cadence` (when) · `state` (what is copied off the model) · `contents` (what one checkpoint will hold) · `writer` (in
the background, sealed by the manifest) · `tensorfile`, `sharded`, `storage` (how bytes reach the disk) · `resume` (how
a run goes on) · `changes` (under which configuration it may) · `consumed` (rows and tokens up to a step) ·
`set_aside`, `moving` (what follows the step that a run goes on from) · `retention` (which training states stay) ·
`verify`, `history`, `inspect` (what is there, and whether it tells one history) · `losses`, `repair`, `rebuilding`
(what is there no more) · `validation_rows` (the rows of `val` captures, stored with the run) · `importing` (checkpoints
from elsewhere) · `metrics_log`, `lock`, `signals`.
"""
