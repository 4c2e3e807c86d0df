"""Text and settings of this suite's small corpora."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

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


def draw_rows(count: int, *, high: int = 300, length: int = SEQ_LEN + 1, seed: int = 0) -> np.ndarray:
    """Rows of token ids below `high`, the same for the same seed, shaped (count, length)."""
    return np.random.default_rng(seed).integers(0, high, (count, length))


def write_shard(path: Path, rows: Any, *, kind: pa.DataType | None = None, **options: Any) -> Path:
    """A shard as other programs write it: a Parquet file of one column, lists of `kind`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    column = pa.array([list(map(int, row)) for row in rows], kind or pa.list_(pa.int32()))
    pq.write_table(pa.table({"input_ids": column}), path, **options)
    return path
