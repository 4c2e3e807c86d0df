"""Indexes of shards without a manifest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.corpora import SEQ_LEN, tokens_config

from pico_train.config import DataConfig
from pico_train.data.corpus import open_corpus
from pico_train.data.shards import footers


def write(path: Path, rows: Any, *, kind: pa.DataType | None = None, **options: Any) -> Path:
    """A shard as other programs write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    column = pa.array([list(map(int, row)) for row in rows], kind or pa.list_(pa.int32()))
    pq.write_table(pa.table({"input_ids": column}), path, **options)
    return path


def draw(count: int, *, high: int = 300, length: int = SEQ_LEN + 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, high, (count, length))


@pytest.fixture
def bare(tmp_path: Path, corpus_dir: Path) -> Callable[..., DataConfig]:
    """`bare(**settings)`: configuration of a directory `shards` that has no manifest."""

    def config(**settings: object) -> DataConfig:
        return tokens_config(tmp_path / "shards", tokenizer=str(corpus_dir / "tokenizer"), **settings)

    return config


@pytest.mark.usefixtures("cache")
def test_the_index_of_many_shards_is_read_once(
    tmp_path: Path, bare: Callable[..., DataConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        write(tmp_path / f"shards/{number}.parquet", draw(10))
    before = open_corpus(bare()).fingerprint
    reads: list[str] = []
    original = footers.read_footer
    monkeypatch.setattr(
        footers, "read_footer", lambda *a, where, **k: reads.append(where) or original(*a, where=where, **k)
    )
    assert open_corpus(bare()).fingerprint == before
    assert reads == []
    write(tmp_path / "shards/4.parquet", draw(11))
    assert open_corpus(bare()).fingerprint != before
    assert len(reads) == 5
