"""Every source, and what is said of one that cannot be used."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpora import SEQ_LEN, make_text, tokens_config
from pydantic import ValidationError

from pico_train.config import DataConfig
from pico_train.data import footers, manifest, stdlib
from pico_train.data.corpus import open_corpus
from pico_train.data.fingerprint import check_unchanged
from pico_train.data.inputs import documents, find
from pico_train.data.loader import Loader
from pico_train.data.reader import GroupCache, ShardReader
from pico_train.data.reading import Format, HubText
from pico_train.data.shard_corpus import ShardCorpus
from pico_train.data.tokenizer import describe, load
from pico_train.data.tokens import open_directory
from pico_train.data.view import decode
from pico_train.errors import ConfigError, DataError, PicoTrainError


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
        (of_other_schema, r"b\.parquet: has the columns \(input_ids: list<element: int64>\), but a\.parquet has \(.*32>\)"),
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


# Text


def text_config(*paths: Path | str, **settings: object) -> DataConfig:
    values = {
        "source": "text",
        "paths": [str(p) for p in paths],
        "seq_len": SEQ_LEN,
        "tokenizer": "train:300",
        "val_rows": 2,
    }
    return DataConfig.model_validate({**values, **settings})


def test_text_is_prepared_once_and_found_again(text_dir: Path, cache: Path) -> None:
    said: list[str] = []
    first = open_corpus(text_config(text_dir), progress=said.append)
    assert any("training a tokenizer" in sentence for sentence in said)
    said.clear()
    again = open_corpus(text_config(text_dir), progress=said.append)
    assert said == []
    assert again.fingerprint == first.fingerprint
    assert first.fingerprint.order == "shuffled"
    assert make_text(0, 300)[:30] in "".join(decode(first.tokenizer_dir, first.rows(np.arange(first.n_rows))))


def test_every_kind_of_text_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.md").write_text("# b")
    (tmp_path / "c.jsonl").write_text('{"text": "c1"}\n\n{"text": "c2", "source": "web"}\n')
    with gzip.open(tmp_path / "d.jsonl.gz", "wt") as file:
        file.write(json.dumps({"text": "d"}) + "\n")
    pq.write_table(pa.table({"text": ["e1", "e2"], "source": ["x", None]}), tmp_path / "e.parquet")
    (tmp_path / "f.bin").write_bytes(b"\0")
    (tmp_path / ".hidden.txt").write_text("no")
    found = [
        (document.source, "".join(document.parts()), document.named)
        for document in documents(find([str(tmp_path)]), Format())
    ]
    assert found == [
        ("a.txt", "a", False),
        ("b.md", "# b", False),
        ("c.jsonl", "c1", False),
        ("web", "c2", True),
        ("d.jsonl.gz", "d", False),
        ("x", "e1", True),
        ("e.parquet", "e2", False),
    ]


def test_what_datasets_reads_can_be_trained_on(tmp_path: Path) -> None:
    import datasets

    (tmp_path / "a.csv").write_text("text,n\nfrom a table,1\n")
    datasets.Dataset.from_dict({"text": ["from a saved dataset"]}).save_to_disk(str(tmp_path / "saved"))
    found = documents(find([str(tmp_path / "a.csv"), str(tmp_path / "saved")]), Format())
    assert ["".join(document.parts()) for document in found] == ["from a table", "from a saved dataset"]


def test_folders_and_globs_name_files_in_a_fixed_order(text_dir: Path, tmp_path: Path) -> None:
    by_folder = [item.label for item in find([str(text_dir)])]  # type: ignore[union-attr]
    assert by_folder[:2] == ["books/00.txt", "books/02.txt"]
    assert [item.label for item in find([f"{text_dir}/**/*.txt"])] == by_folder  # type: ignore[union-attr]
    assert len(find([str(text_dir), str(text_dir / "web")])) == 40, "nothing twice"
    sources = {document.source for document in documents(find([str(text_dir)]), Format(group_by_folder=True))}
    assert sources == {"books", "web"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"fine until here \xff\xfe", r"a\.txt: not UTF-8 at byte 16: convert the file, or replace"),
        ("a.txt", b"cut in a character \xe2\x82", r"a\.txt: not UTF-8 at byte 21, its end"),
        ("a.jsonl", b'{"text": "ok"}\n{"text": "\xff"}\n', r"a\.jsonl: not UTF-8 at line 2, byte 10"),
        ("a.jsonl", b'{"text": "ok"}\n{"text": \n', r"a\.jsonl, line 2: not JSON .*: one JSON object per line"),
        ("a.jsonl", b"[1]\n", r"a\.jsonl, line 1: a JSON object was expected, found list"),
        (
            "a.jsonl",
            b'{"body": "x"}\n',
            r"line 1: 'text' holds nothing, not text \(fields: body\): name the field with",
        ),
        ("a.jsonl", b'{"text": 5}\n', r"line 1: 'text' holds int, not text"),
        ("a.jsonl.gz", b"\x1f\x8b\x08\x00garbage", r"a\.jsonl\.gz: not a whole gzip file"),
        ("a.parquet", b"PAR1garbage", r"a\.parquet: not a whole Parquet file"),
        ("a.txt", b"", r"the corpus is empty"),
        ("a.txt", b"too little", r"split holds \d+ tokens, fewer than one row of 17: give more text, or a smaller"),
    ],
)
def test_unusable_text_is_named(tmp_path: Path, cache: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        open_corpus(text_config(tmp_path / "text", val_fraction=1e-9))
    assert "\n" not in str(caught.value)


def test_text_that_is_not_utf8_is_replaced_where_that_is_asked(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a\xffb")
    (tmp_path / "b.jsonl").write_bytes(b'{"text": "c\xffd"}\n')
    found = documents(find([str(tmp_path)]), Format(errors="replace"))
    assert ["".join(document.parts()) for document in found] == ["a\ufffdb", "c\ufffdd"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("nowhere", r"nowhere: no such file or folder"),
        ("*.nothing", r"\*\.nothing: no text there: name files, globs, or folders with files ending in \.txt, \.md"),
        ("hf://datasets/only-a-name", r"hf://datasets/only-a-name: not a dataset"),
    ],
)
def test_patterns_that_name_nothing_are_refused(pattern: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find([pattern])


def test_a_file_of_unknown_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_bytes(b"x")
    with pytest.raises(DataError, match=r"a\.docx: files ending in \.docx cannot be read: these can: \.txt"):
        list(documents(find([str(tmp_path / "a.docx")]), Format()))


def test_addresses_of_hub_datasets() -> None:
    found = HubText.parse("hf://datasets/allenai/c4@main/en/*.json.gz?name=en&split=validation")
    assert (found.repo, found.revision, found.files) == ("allenai/c4", "main", "en/*.json.gz")
    assert (found.name, found.split) == ("en", "validation")
    assert HubText.parse("hf://datasets/a/b").split == "train"


# The standard library


def test_the_standard_library_is_found_and_leaves_tests_out() -> None:
    sources = [document.source for document in stdlib.documents()]
    assert {"os.py", "json/decoder.py", "asyncio/events.py"} <= set(sources)
    assert len(sources) == len(set(sources))
    for part in ("test", "tests", "site-packages", "idle_test", "__pycache__", "lib2to3"):
        assert not any(part in source.split("/")[:-1] for source in sources)
    assert sources == [document.source for document in stdlib.documents()]


def test_the_standard_library_trains_a_model(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a tenth of it, so that this takes a second."""
    everything = list(stdlib.documents())
    monkeypatch.setattr(stdlib, "documents", lambda root=None: iter(everything[::5]))
    config = DataConfig.model_validate({"seq_len": 64, "tokenizer": "train:500", "val_fraction": 0.2})
    corpus = open_corpus(config)
    assert corpus.fingerprint.source == "stdlib"
    assert corpus.fingerprint.details["license"] == "PSF-2.0"
    assert describe(corpus.tokenizer_dir).eos_id == corpus.eos_id
    assert corpus.validation(40).shape == (40, 65)
    held_out = set(corpus.validation_sources(corpus.n_validation_rows))
    assert not held_out & set(corpus.sources(np.arange(corpus.n_rows))), "whole files are held out"
    assert len(held_out) >= 2
    assert open_corpus(config).fingerprint == corpus.fingerprint
    assert next(iter(Loader(corpus, batch_size=4, order="shuffled", seed=0).from_step(0, 1))).input_ids.shape == (4, 65)


def test_no_sources_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    with pytest.raises(
        DataError, match=r"no Python sources are installed at .*: train on other text with --set data.source=text"
    ):
        open_corpus(DataConfig())


# Fingerprints


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"order": "sequential"}, r"data.order was shuffled and is sequential \(another order\)"),
        ({"seq_len": 32}, r"data.seq_len was 16 and is 32"),
        ({"sha256": "0" * 64, "n_rows": 5}, r"data.n_rows was \d+ and is 5"),
        ({"sha256": "0" * 64}, r"data.sha256 was [0-9a-f]{20} and is 0{20} \(other rows"),
        ({"tokenizer_sha256": "1" * 64, "sha256": "0" * 64}, r"data.tokenizer_sha256 was"),
    ],
)
def test_other_data_are_refused_on_resume(corpus: ShardCorpus, change: dict[str, Any], message: str) -> None:
    begun = corpus.fingerprint.model_copy(update={"order": "shuffled"})
    with pytest.raises(DataError, match=message + r".*--override"):
        check_unchanged(begun, begun.model_copy(update=change))
    assert set(check_unchanged(begun, begun.model_copy(update=change), allow=True)) == set(change)


def test_the_same_rows_elsewhere_are_the_same_data(corpus: ShardCorpus) -> None:
    elsewhere = corpus.fingerprint.model_copy(update={"source": "hub", "details": {"repo": "a/b"}})
    assert check_unchanged(corpus.fingerprint, elsewhere) == []


# Manifests and tokenizers


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not a corpus manifest: the file is damaged"),
        (b"[]", "not a corpus manifest"),
        (b'{"format": "9.0"}', r"format 9\.0 is newer than this pico-train reads: pip install -U pico-train"),
        (b'{"format": "1.0"}', "producer: Field required"),
    ],
)
def test_damaged_manifests_are_refused(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        manifest.parse(content, where="x")


def test_a_manifest_names_no_file_outside(corpus_dir: Path) -> None:
    raw = json.loads((corpus_dir / manifest.FILE).read_text())
    for path in ("../evil.parquet", "/etc/evil.parquet", "a/../../b.parquet", "data/.hidden.parquet"):
        raw["splits"]["train"]["shards"][0]["file"] = path
        with pytest.raises(DataError, match=r"splits\.train\.shards\.0\.file"):
            manifest.parse(json.dumps(raw).encode(), where="x")


def test_unusable_tokenizers_are_named(tmp_path: Path, corpus_dir: Path) -> None:
    with pytest.raises(DataError, match=r"not a tokenizer: it has no tokenizer\.json"):
        load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match=r"tokenizer\.json: not a tokenizer"):
        load(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes((corpus_dir / "tokenizer/tokenizer.json").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(DataError, match="names no end-of-text token of its vocabulary: set eos_token"):
        describe(tmp_path)


@pytest.mark.parametrize("name", ["train:", "train:100", "train:many", "train:99999999"])
def test_impossible_vocabularies_are_refused(name: str, text_dir: Path, cache: Path) -> None:
    with pytest.raises(PicoTrainError, match=f"tokenizer {name}: the vocabulary to train has 257 to 1048576 tokens"):
        open_corpus(text_config(text_dir, tokenizer=name))
