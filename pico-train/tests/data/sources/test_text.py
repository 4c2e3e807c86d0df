"""Text of every kind, the standard library, and what is said of text that cannot be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.corpora import SEQ_LEN, make_text

from pico_train.config import DataConfig
from pico_train.data.corpus import open_corpus
from pico_train.data.prepare.files import find
from pico_train.data.prepare.inputs import documents
from pico_train.data.prepare.records import TextLayout
from pico_train.data.tokenizer import decode_rows
from pico_train.errors import DataError, PicoTrainError


def text_config(*paths: Path | str, **settings: object) -> DataConfig:
    values = {
        "source": "text",
        "paths": [str(p) for p in paths],
        "seq_len": SEQ_LEN,
        "tokenizer": "train:300",
        "val_rows": 2,
    }
    return DataConfig.model_validate({**values, **settings})


@pytest.mark.usefixtures("cache")
def test_text_is_prepared_once_and_found_again(text_dir: Path) -> None:
    said: list[str] = []
    first = open_corpus(text_config(text_dir), progress=said.append)
    assert any("training a tokenizer" in sentence for sentence in said)
    said.clear()
    again = open_corpus(text_config(text_dir), progress=said.append)
    assert said == []
    assert again.fingerprint == first.fingerprint
    assert first.fingerprint.order == "shuffled"
    assert make_text(0, 300)[:30] in "".join(decode_rows(first.tokenizer_dir, first.rows(np.arange(first.n_rows))))


def test_what_datasets_reads_can_be_trained_on(tmp_path: Path) -> None:
    import datasets

    (tmp_path / "a.csv").write_text("text,n\nfrom a table,1\n")
    datasets.Dataset.from_dict({"text": ["from a saved dataset"]}).save_to_disk(str(tmp_path / "saved"))
    found = documents(find([str(tmp_path / "a.csv"), str(tmp_path / "saved")]).items, TextLayout())
    assert ["".join(document.parts()) for document in found] == ["from a table", "from a saved dataset"]


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"fine until here \xff\xfe", r"a\.txt: not UTF-8 at byte 16: convert the file, or replace"),
        ("a.txt", b"cut in a character \xe2\x82", r"a\.txt: not UTF-8 at byte 21, its end"),
        ("a.jsonl", b'{"text": "ok"}\n{"text": "\xff"}\n', r"a\.jsonl, line 2: not UTF-8 at byte 10"),
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
def test_unusable_text_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        open_corpus(text_config(tmp_path / "text", val_fraction=1e-9))
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("name", ["train:", "train:100", "train:many", "train:99999999"])
def test_impossible_vocabularies_are_refused(name: str, text_dir: Path) -> None:
    with pytest.raises(PicoTrainError, match=f"tokenizer {name}: the vocabulary to train has 257 to 1048576 tokens"):
        open_corpus(text_config(text_dir, tokenizer=name))
