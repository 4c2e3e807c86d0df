"""Make the golden run of the current schema version, once, when the version is released; then it is never changed.

    python make_golden.py            needs pico-train; writes golden/<version>

Each golden run stays in the suite for ever: whatever a version wrote, every later reader must still read.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from pathlib import Path

from pico_schema import SCHEMA_VERSION

GOLDEN = Path(__file__).parent / "golden"
SETTINGS = [
    "model.d_model=16",
    "model.d_ff=32",
    "model.n_layers=2",
    "model.n_heads=4",
    "model.n_kv_heads=2",
    "model.vocab_size=300",
    "data.tokenizer=train:300",
    "data.seq_len=32",
    "data.val_rows=4",
    "training.max_steps=4",
    "training.batch_size=4",
    "training.schedule.warmup_steps=1",
    "captures.val.positions=4",
    "captures.dtype=bfloat16",
    "checkpoint.weights.at=[3]",
]


def main() -> None:
    """Train it."""
    target = GOLDEN / SCHEMA_VERSION
    if target.exists():
        sys.exit(f"{target} exists: a golden run is never changed")
    from pico_train import load_config, train

    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        train(load_config(set=SETTINGS, name="golden", out="runs"))
        shutil.copytree("runs/golden", target / "golden", ignore=shutil.ignore_patterns(".lock*"))


if __name__ == "__main__":
    main()
