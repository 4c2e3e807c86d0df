"""Text and settings of this suite's small corpora."""

from __future__ import annotations

import random
from pathlib import Path

from pico_train.config import DataConfig

SEQ_LEN = 16
WORDS = [
    "the",
    "model",
    "learns",
    "a",
    "step",
    "then",
    "another",
    "gradient",
    "flows",
    "through",
    "layers",
    "while",
    "loss",
    "falls",
    "slowly",
    "and",
    "rises",
]


def make_text(seed: int, n_words: int) -> str:
    """Lines of words, the same for the same seed."""
    draw = random.Random(seed)
    lines = [" ".join(draw.choices(WORDS, k=draw.randint(3, 12))) for _ in range(n_words // 7)]
    return f"document {seed}\n" + "\n".join(lines) + "\n"


def tokens_config(directory: Path, **settings: object) -> DataConfig:
    """The section `data` for a directory of shards of this test suite's row length."""
    values = {"source": "tokens", "paths": (str(directory),), "seq_len": SEQ_LEN, "val_rows": 8, **settings}
    return DataConfig.model_validate(values)
