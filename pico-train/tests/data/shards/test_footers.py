"""Indexes of shards without a manifest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.corpora import draw_rows, write_shard

from pico_train.config import DataConfig
from pico_train.data.corpus import open_corpus
from pico_train.data.shards import footers


@pytest.mark.usefixtures("cache")
def test_the_index_of_many_shards_is_read_once(
    tmp_path: Path, bare: Callable[..., DataConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        write_shard(tmp_path / f"shards/{number}.parquet", draw_rows(10))
    before = open_corpus(bare()).fingerprint
    reads: list[str] = []
    original = footers.read_footer
    monkeypatch.setattr(
        footers, "read_footer", lambda *a, where, **k: reads.append(where) or original(*a, where=where, **k)
    )
    assert open_corpus(bare()).fingerprint == before
    assert reads == []
    write_shard(tmp_path / "shards/4.parquet", draw_rows(11))
    assert open_corpus(bare()).fingerprint != before
    assert len(reads) == 5
