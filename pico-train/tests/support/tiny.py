"""A training run that takes about a second: what is trained on, and its configuration."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from pico_train.config import RunConfig

SECTIONS: dict[str, Any] = {
    "model": {"d_model": 16, "n_layers": 2, "n_heads": 2, "n_kv_heads": 1, "d_ff": 32, "vocab_size": 300},
    "data": {"source": "text", "tokenizer": "train:300", "seq_len": 12, "val_rows": 4, "log_digests": True},
    "training": {"max_steps": 14, "batch_size": 4, "schedule": {"warmup_steps": 3}, "optimizer": {"lr": 3e-3}},
    "checkpoint": {
        "weights": {"early": 0, "every": 3},
        "training_state": {"early": 0, "every": 3},
        "captures": {"early": 0, "every": 6},
    },
    "captures": {"sites": ["attn.v", "mlp.down", "resid", "embed", "norm.final", "head"], "val": {"positions": 2}},
    "evaluation": {"cadence": {"early": 0, "every": 6}},
    "monitoring": {"log_every": 1},
    "distributed": {"accelerator": "cpu"},
}
"""Fourteen steps of four rows; the corpus has 28 rows, so that an epoch ends at step 7."""


def write_text(directory: Path) -> Path:
    """A file of text that is the same every time; beside it `held_out.txt`."""
    words = "a an the one two cat dog tree sees finds likes red green small over under and then"
    chance = random.Random(1)
    for name, lines in (("held_out.txt", 12), ("text.txt", 28)):
        content = "\n".join(" ".join(chance.choices(words.split(), k=9)) + "." for _ in range(lines))
        (directory / name).write_text(content, encoding="utf-8")
    return directory / "text.txt"


def config(out: Path, text: Path, **changes: Any) -> RunConfig:
    """The run's configuration; `changes` are `section__key=value`."""
    raw = _deep(SECTIONS)
    raw["data"] |= {"paths": [str(text)], "val_paths": [str(text.with_name("held_out.txt"))]}
    raw |= {"out": str(out), "name": "tiny", "seed": 5}
    for path, value in changes.items():
        *sections, key = path.split("__")
        target = raw
        for section in sections:
            target = target.setdefault(section, {})
        target[key] = value
    return RunConfig.model_validate(raw)


def _deep(value: Any) -> Any:
    return {key: _deep(item) for key, item in value.items()} if isinstance(value, dict) else value
