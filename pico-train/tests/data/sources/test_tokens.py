"""Shards of token rows, from whoever made them, and what is said of those that cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.corpora import SEQ_LEN, draw_rows, tokens_config, write_shard

from pico_train.config import DataConfig
from pico_train.data.corpus import open_corpus
from pico_train.errors import ConfigError, DataError


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (pa.list_(pa.int32()), {"compression": "snappy"}),
        (pa.list_(pa.int64()), {"compression": "zstd", "row_group_size": 7}),
        (pa.large_list(pa.uint16()), {"compression": "none", "use_dictionary": False}),
        (pa.list_(pa.int32(), SEQ_LEN + 1), {"data_page_version": "2.0"}),
    ],
    ids=["snappy-int32", "zstd-int64-small-groups", "plain-uint16-large", "fixed-size"],
)
def test_rows_come_back_whatever_way_they_were_stored(
    tmp_path: Path, bare: Callable[..., DataConfig], kind: pa.DataType, options: dict[str, Any]
) -> None:
    parts = [draw_rows(count, seed=count) for count in (30, 1, 25)]
    for number, part in enumerate(parts):
        write_shard(tmp_path / f"shards/train-{number}.parquet", part, kind=kind, **options)
    everything = np.concatenate(parts)
    corpus = open_corpus(bare())
    assert corpus.n_rows == 56 - 8, "the last val_rows rows are held out where nothing else is"
    ids = np.random.default_rng(1).permutation(corpus.n_rows)
    assert np.array_equal(corpus.rows(ids), everything[ids])
    assert np.array_equal(corpus.validation(8), everything[-8:])
    assert corpus.rows(ids).dtype == np.int32
    assert corpus.rows(ids[:0]).shape == (0, SEQ_LEN + 1)


@pytest.mark.usefixtures("cache")
def test_shards_are_taken_in_the_order_of_their_numbers(tmp_path: Path, bare: Callable[..., DataConfig]) -> None:
    for number in (0, 2, 10):
        write_shard(tmp_path / f"shards/part-{number}.parquet", np.full((10, SEQ_LEN + 1), number))
    write_shard(tmp_path / "shards/validation/part-0.parquet", np.full((9, SEQ_LEN + 1), 99))
    write_shard(tmp_path / "shards/test-0.parquet", np.full((9, SEQ_LEN + 1), 98))
    corpus = open_corpus(bare())
    assert corpus.rows(np.array([0, 10, 20]))[:, 0].tolist() == [0, 2, 10]
    assert corpus.n_rows == 30
    assert corpus.validation(8)[:, 0].tolist() == [99] * 8


def truncated(root: Path) -> None:
    path = write_shard(root / "a.parquet", draw_rows(50))
    path.write_bytes(path.read_bytes()[:-100])


def of_other_schema(root: Path) -> None:
    write_shard(root / "a.parquet", draw_rows(50))
    write_shard(root / "b.parquet", draw_rows(50), kind=pa.list_(pa.int64()))


def without_the_column(root: Path) -> None:
    root.mkdir()
    pq.write_table(pa.table({"tokens": [[1, 2]]}), root / "a.parquet")


def of_texts(root: Path) -> None:
    root.mkdir()
    pq.write_table(pa.table({"input_ids": ["text"]}), root / "a.parquet")


def of_another_length(root: Path) -> None:
    write_shard(root / "a.parquet", [*draw_rows(20), [1, 2, 3], *draw_rows(20)])


def beyond_the_vocabulary(root: Path) -> None:
    rows = draw_rows(50)
    rows[13, 5] = 300
    write_shard(root / "a.parquet", rows)


def negative(root: Path) -> None:
    rows = draw_rows(50)
    rows[13, 5] = -1
    write_shard(root / "a.parquet", rows)


def missing_values(root: Path) -> None:
    root.mkdir()
    pq.write_table(
        pa.table({"input_ids": pa.array([[1] * (SEQ_LEN + 1), None] * 20, pa.list_(pa.int32()))}), root / "a.parquet"
    )


def too_few(root: Path) -> None:
    write_shard(root / "a.parquet", draw_rows(5))


def empty(root: Path) -> None:
    root.mkdir()


def without_rows(root: Path) -> None:
    write_shard(root / "a.parquet", [])


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (truncated, r"shards/a\.parquet: not a whole Parquet file: it is cut short or damaged"),
        (of_other_schema, r"b\.parquet: has the columns \(input_ids: list<element: int64>\), but a\.parquet has \("),
        (without_the_column, r"a\.parquet: has no column input_ids \(its columns: tokens\)"),
        (of_texts, r"a\.parquet: column input_ids holds string, not lists of integers"),
        (of_another_length, r"a\.parquet: row 20 of row group 0 holds 3 ids, not 17: set data\.seq_len=2"),
        (beyond_the_vocabulary, r"row 13 holds token id 300 at position 5, beyond the vocabulary of 300"),
        (negative, r"row 13 holds token id -1 at position 5, beyond the vocabulary of 300"),
        (missing_values, r"a\.parquet: row group 0 has missing values in column input_ids"),
        (too_few, r"shards: 5 rows, of which 8 would be held out: set data\.val_rows lower"),
        (empty, r"shards: holds no Parquet shards to train on: is it the right folder"),
        (without_rows, r"shards: the corpus is empty: its shards hold no rows"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)  # fmt: skip
def test_unusable_shards_are_named(
    tmp_path: Path, bare: Callable[..., DataConfig], make: Callable[[Path], None], message: str
) -> None:
    make(tmp_path / "shards")
    with pytest.raises(DataError, match=message) as caught:
        open_corpus(bare()).rows(np.arange(30))
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("cache")
def test_a_shard_that_was_exchanged_is_noticed(corpus_dir: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(corpus_dir, tmp_path / "c")
    shards = sorted((tmp_path / "c/data").glob("train-*"))
    shutil.copy(shards[-1], shards[0])
    with pytest.raises(DataError, match=r"holds \d+ rows, not 100: it is not the shard it was"):
        open_corpus(tokens_config(tmp_path / "c")).rows(np.array([0]))


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"paths": ("nowhere",)}, r"data.paths: nowhere: no such directory"),
        ({"seq_len": 99}, r"its rows hold 16 \+ 1 tokens, data.seq_len is 99: set data.seq_len=16"),
        ({"tokenizer": "gpt2"}, r"data.tokenizer=gpt2, but .*corpus was made with train:300, which lies with it"),
    ],
)
def test_settings_that_do_not_fit_the_corpus_are_refused(
    corpus_dir: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        open_corpus(tokens_config(corpus_dir, **settings))
    assert caught.value.exit_code == 2


@pytest.mark.usefixtures("cache")
def test_shards_without_a_tokenizer_need_one_named(tmp_path: Path) -> None:
    write_shard(tmp_path / "shards/a.parquet", draw_rows(50))
    with pytest.raises(ConfigError, match=r"shards: says nothing of its tokenizer: name it, such as --set data.tok"):
        open_corpus(tokens_config(tmp_path / "shards"))
    with pytest.raises(ConfigError, match=r"tokenizer ./nowhere: no tokenizer.json there"):
        open_corpus(tokens_config(tmp_path / "shards", tokenizer="./nowhere"))
