"""Text of every kind, the standard library, and what is said of text that cannot be used."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpora import SEQ_LEN, make_text

from pico_train.config import DataConfig
from pico_train.data.corpus import open_corpus
from pico_train.data.inspect.batches import decode
from pico_train.data.loader import Loader
from pico_train.data.prepare.inputs import documents, find
from pico_train.data.prepare.reading import HubText, TextLayout
from pico_train.data.sources import stdlib
from pico_train.data.tokenizer import describe
from pico_train.errors import ConfigError, DataError, PicoTrainError


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
        for document in documents(find([str(tmp_path)]), TextLayout())
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
    found = documents(find([str(tmp_path / "a.csv"), str(tmp_path / "saved")]), TextLayout())
    assert ["".join(document.parts()) for document in found] == ["from a table", "from a saved dataset"]


def test_folders_and_globs_name_files_in_a_fixed_order(text_dir: Path, tmp_path: Path) -> None:
    by_folder = [item.label for item in find([str(text_dir)])]  # type: ignore[union-attr]
    assert by_folder[:2] == ["books/00.txt", "books/02.txt"]
    assert [item.label for item in find([f"{text_dir}/**/*.txt"])] == by_folder  # type: ignore[union-attr]
    assert len(find([str(text_dir), str(text_dir / "web")])) == 40, "nothing twice"
    sources = {document.source for document in documents(find([str(text_dir)]), TextLayout(group_by_folder=True))}
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
    found = documents(find([str(tmp_path)]), TextLayout(errors="replace"))
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
        list(documents(find([str(tmp_path / "a.docx")]), TextLayout()))


def test_addresses_of_hub_datasets() -> None:
    found = HubText.parse("hf://datasets/allenai/c4@main/en/*.json.gz?name=en&split=validation")
    assert (found.repo, found.revision, found.files) == ("allenai/c4", "main", "en/*.json.gz")
    assert (found.name, found.split) == ("en", "validation")
    assert HubText.parse("hf://datasets/a/b").split == "train"


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


@pytest.mark.parametrize("name", ["train:", "train:100", "train:many", "train:99999999"])
def test_impossible_vocabularies_are_refused(name: str, text_dir: Path, cache: Path) -> None:
    with pytest.raises(PicoTrainError, match=f"tokenizer {name}: the vocabulary to train has 257 to 1048576 tokens"):
        open_corpus(text_config(text_dir, tokenizer=name))
