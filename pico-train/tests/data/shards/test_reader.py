"""Reading rows of one shard."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.corpora import SEQ_LEN, tokens_config

from pico_train.data.corpus import open_corpus
from pico_train.data.shards.reader import GroupCache, ShardReader
from pico_train.errors import DataError, StorageError


def draw(count: int, *, high: int = 300, length: int = SEQ_LEN + 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, high, (count, length))


def test_prepared_shards_are_read_without_decoding(corpus_dir: Path) -> None:
    """Each row's bytes stand in the file as they are: the fast path is really taken, and right."""
    for path in sorted((corpus_dir / "data").glob("*.parquet")):
        reader = ShardReader(path, SEQ_LEN + 1, cache=GroupCache())
        assert reader.layout.offsets is not None
        out = np.empty((reader.layout.n_rows, SEQ_LEN + 1), np.int32)
        reader.rows(np.arange(len(out)), out)
        assert out.tolist() == pq.read_table(path).column("input_ids").to_pylist()


def test_a_shard_that_only_claims_to_be_plain_is_refused(tmp_path: Path) -> None:
    """A forged footer: the claim, over pages that do not hold the run of ids where it should end."""
    table = pa.table({"input_ids": pa.array(draw(2000).tolist(), pa.list_(pa.int32()))})
    options = {"compression": "none", "use_dictionary": False, "data_page_size": 1000}
    with pq.ParquetWriter(tmp_path / "a.parquet", table.schema, **options) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"pico.layout": "plain-1"})
    with pytest.raises(DataError, match=r"a\.parquet: declares a plain layout that it does not have"):
        ShardReader(tmp_path / "a.parquet", SEQ_LEN + 1, cache=GroupCache())


@pytest.mark.usefixtures("cache")
def test_a_shard_that_is_damaged_while_it_is_read_is_named(corpus_dir: Path, tmp_path: Path) -> None:
    """Plainly stored: cut short after it was opened; the rows before the cut can still be read."""
    import shutil

    shutil.copytree(corpus_dir, tmp_path / "c")
    corpus = open_corpus(tokens_config(tmp_path / "c"))
    first = corpus.rows(np.array([0]))
    shard = tmp_path / "c/data" / sorted(p.name for p in (tmp_path / "c/data").glob("train-00000*"))[0]
    with shard.open("r+b") as file:
        file.truncate(3000)
    assert np.array_equal(corpus.rows(np.array([0])), first)
    with pytest.raises(DataError, match=r"train-00000-of-.*: ends before byte \d+: the file is cut short"):
        corpus.rows(np.array([99]))


@pytest.mark.usefixtures("cache")
def test_a_disk_that_fails_while_rows_are_read_is_not_taken_for_damage(
    corpus_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = open_corpus(tokens_config(corpus_dir))
    corpus.rows(np.array([0]))

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "preadv", fail, raising=False)
    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(
        StorageError, match=r"train-00000-of-.*: cannot be read \(Input/output error\): see to its disk"
    ):
        corpus.rows(np.array([1]))
