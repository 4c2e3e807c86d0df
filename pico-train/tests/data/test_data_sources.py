"""Shards of token rows, from whoever made them, and what is said of those that cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpora import SEQ_LEN, tokens_config
from pydantic import ValidationError

from pico_train.config import DataConfig
from pico_train.data.corpus import open_corpus
from pico_train.data.shards import footers
from pico_train.data.shards.reader import GroupCache, ShardReader
from pico_train.data.shards.shard_corpus import ShardCorpus
from pico_train.data.sources.tokens import open_directory
from pico_train.errors import ConfigError, DataError


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
    tmp_path: Path, cache: Path, bare: Callable[..., DataConfig], kind: pa.DataType, options: dict[str, Any]
) -> None:
    parts = [draw(count, seed=count) for count in (30, 1, 25)]
    for number, part in enumerate(parts):
        write(tmp_path / f"shards/train-{number}.parquet", part, kind=kind, **options)
    everything = np.concatenate(parts)
    corpus = open_corpus(bare())
    assert corpus.n_rows == 56 - 8, "the last val_rows rows are held out where nothing else is"
    ids = np.random.default_rng(1).permutation(corpus.n_rows)
    assert np.array_equal(corpus.rows(ids), everything[ids])
    assert np.array_equal(corpus.validation(8), everything[-8:])
    assert corpus.rows(ids).dtype == np.int32
    assert corpus.rows(ids[:0]).shape == (0, SEQ_LEN + 1)


def test_shards_are_taken_in_the_order_of_their_numbers(
    tmp_path: Path, cache: Path, bare: Callable[..., DataConfig]
) -> None:
    for number in (0, 2, 10):
        write(tmp_path / f"shards/part-{number}.parquet", np.full((10, SEQ_LEN + 1), number))
    write(tmp_path / "shards/validation/part-0.parquet", np.full((9, SEQ_LEN + 1), 99))
    write(tmp_path / "shards/test-0.parquet", np.full((9, SEQ_LEN + 1), 98))
    corpus = open_corpus(bare())
    assert corpus.rows(np.array([0, 10, 20]))[:, 0].tolist() == [0, 2, 10]
    assert corpus.n_rows == 30
    assert corpus.validation(8)[:, 0].tolist() == [99] * 8


def test_a_directory_of_held_out_shards_may_be_named(
    tmp_path: Path, cache: Path, bare: Callable[..., DataConfig], corpus_dir: Path
) -> None:
    write(tmp_path / "shards/a.parquet", draw(20))
    write(tmp_path / "held/a.parquet", np.full((9, SEQ_LEN + 1), 7))
    assert open_corpus(bare(val_paths=(str(tmp_path / "held"),))).validation(9)[:, 0].tolist() == [7] * 9
    assert open_corpus(bare(val_paths=(str(corpus_dir),))).n_validation_rows > 20


def test_a_prepared_corpus_without_a_held_out_split_holds_out_its_last_rows(
    text_dir: Path, tmp_path: Path, cache: Path, prepare_text: Callable[..., Any], corpus_dir: Path
) -> None:
    n_rows = prepare_text([text_dir], tmp_path / "c").splits["train"].n_rows
    everything = open_directory(tmp_path / "c", None, progress=print)
    corpus = open_corpus(tokens_config(tmp_path / "c"))
    assert (everything.n_rows, corpus.n_rows) == (n_rows, n_rows - 8)
    assert np.array_equal(corpus.validation(8), everything.rows(np.arange(n_rows - 8, n_rows)))
    assert corpus.fingerprint.details["held_out"] == "the last 8 rows"
    with pytest.raises(DataError, match=rf"{n_rows} rows, of which {n_rows} would be held out"):
        open_corpus(tokens_config(tmp_path / "c", val_rows=n_rows))
    with pytest.raises(
        ConfigError, match=r"val_paths: .*: was made with another tokenizer \(train:300\) than the corpus"
    ):
        open_corpus(tokens_config(tmp_path / "c", val_paths=(str(corpus_dir),)))
    prepare_text([], tmp_path / "held", val=(text_dir / "web",), tokenizer=str(tmp_path / "c" / "tokenizer"))
    named = open_corpus(tokens_config(tmp_path / "c", val_paths=(str(tmp_path / "held"),)))
    assert named.n_rows == n_rows
    assert named.n_validation_rows > 100


def test_the_index_of_many_shards_is_read_once(
    tmp_path: Path, cache: Path, bare: Callable[..., DataConfig], monkeypatch: pytest.MonkeyPatch
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


def truncated(root: Path) -> None:
    path = write(root / "a.parquet", draw(50))
    path.write_bytes(path.read_bytes()[:-100])


def of_other_schema(root: Path) -> None:
    write(root / "a.parquet", draw(50))
    write(root / "b.parquet", draw(50), kind=pa.list_(pa.int64()))


def without_the_column(root: Path) -> None:
    root.mkdir()
    pq.write_table(pa.table({"tokens": [[1, 2]]}), root / "a.parquet")


def of_texts(root: Path) -> None:
    root.mkdir()
    pq.write_table(pa.table({"input_ids": ["text"]}), root / "a.parquet")


def of_another_length(root: Path) -> None:
    write(root / "a.parquet", [*draw(20), [1, 2, 3], *draw(20)])


def beyond_the_vocabulary(root: Path) -> None:
    rows = draw(50)
    rows[13, 5] = 300
    write(root / "a.parquet", rows)


def negative(root: Path) -> None:
    rows = draw(50)
    rows[13, 5] = -1
    write(root / "a.parquet", rows)


def missing_values(root: Path) -> None:
    root.mkdir()
    pq.write_table(
        pa.table({"input_ids": pa.array([[1] * (SEQ_LEN + 1), None] * 20, pa.list_(pa.int32()))}), root / "a.parquet"
    )


def too_few(root: Path) -> None:
    write(root / "a.parquet", draw(5))


def empty(root: Path) -> None:
    root.mkdir()


def without_rows(root: Path) -> None:
    write(root / "a.parquet", [])


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
    tmp_path: Path, cache: Path, bare: Callable[..., DataConfig], make: Callable[[Path], None], message: str
) -> None:
    make(tmp_path / "shards")
    with pytest.raises(DataError, match=message) as caught:
        open_corpus(bare()).rows(np.arange(30))
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)


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


def test_a_shard_that_is_damaged_while_it_is_read_is_named(corpus_dir: Path, tmp_path: Path, cache: Path) -> None:
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


def test_a_shard_that_was_exchanged_is_noticed(corpus_dir: Path, tmp_path: Path, cache: Path) -> None:
    import shutil

    shutil.copytree(corpus_dir, tmp_path / "c")
    shards = sorted((tmp_path / "c/data").glob("train-*"))
    shutil.copy(shards[-1], shards[0])
    with pytest.raises(DataError, match=r"holds \d+ rows, not 100: it is not the shard it was"):
        open_corpus(tokens_config(tmp_path / "c")).rows(np.array([0]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "tokens"}, "data.source=tokens needs data.paths"),
        ({"source": "tokens", "paths": ("a", "b")}, "data.source=tokens reads one directory, 2 are in data.paths"),
        ({"source": "hub"}, "data.source=hub needs data.repo"),
        ({"source": "hub", "repo": "a/b", "order": "shuffled"}, "data.order=shuffled would fetch every shard"),
        (
            {"source": "tokens", "paths": ("a",), "tokenizer": "train:300"},
            "data.tokenizer=train:300 cannot be trained on data.source=tokens",
        ),
    ],
)
def test_impossible_settings_are_refused_at_once(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DataConfig.model_validate(settings)


def test_defaults_follow_the_source() -> None:
    assert DataConfig().tokenizer == "train:4096"
    assert DataConfig().order == "shuffled"
    hub = DataConfig.model_validate({"source": "hub", "repo": "a/b"})
    assert (hub.tokenizer, hub.order) == (None, "sequential")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"paths": ("nowhere",)}, r"data.paths: nowhere: no such directory"),
        ({"seq_len": 99}, r"its rows hold 16 \+ 1 tokens, data.seq_len is 99: set data.seq_len=16"),
        ({"tokenizer": "gpt2"}, r"data.tokenizer=gpt2, but .*corpus was made with train:300, which lies with it"),
    ],
)
def test_settings_that_do_not_fit_the_corpus_are_refused(
    corpus_dir: Path, cache: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        open_corpus(tokens_config(corpus_dir, **settings))
    assert caught.value.exit_code == 2


def test_shards_without_a_tokenizer_need_one_named(tmp_path: Path, cache: Path) -> None:
    write(tmp_path / "shards/a.parquet", draw(50))
    with pytest.raises(ConfigError, match=r"shards: says nothing of its tokenizer: name it, such as --set data.tok"):
        open_corpus(tokens_config(tmp_path / "shards"))
    with pytest.raises(ConfigError, match=r"tokenizer ./nowhere: no tokenizer.json there"):
        open_corpus(tokens_config(tmp_path / "shards", tokenizer="./nowhere"))


def test_too_few_held_out_rows_are_refused(corpus: ShardCorpus) -> None:
    there = corpus.n_validation_rows
    with pytest.raises(
        DataError, match=rf"has {there} held-out rows, {there + 1} were asked for: set data.val_rows={there}"
    ):
        corpus.validation(there + 1)


def test_rows_that_do_not_exist_are_refused(corpus: ShardCorpus) -> None:
    with pytest.raises(
        DataError, match=rf"row {corpus.n_rows} does not exist: the corpus has rows 0 to {corpus.n_rows - 1}"
    ):
        corpus.rows(np.array([0, corpus.n_rows]))
