"""Files of every kind, read as documents."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pico_train.data.prepare.inputs import documents, find
from pico_train.data.prepare.reading import HubText, TextLayout
from pico_train.errors import DataError


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


def test_text_that_is_not_utf8_is_replaced_where_that_is_asked(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a\xffb")
    (tmp_path / "b.jsonl").write_bytes(b'{"text": "c\xffd"}\n')
    found = documents(find([str(tmp_path)]), TextLayout(errors="replace"))
    assert ["".join(document.parts()) for document in found] == ["a\ufffdb", "c\ufffdd"]


def test_a_file_of_unknown_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_bytes(b"x")
    with pytest.raises(DataError, match=r"a\.docx: files ending in \.docx cannot be read: these can: \.txt"):
        list(documents(find([str(tmp_path / "a.docx")]), TextLayout()))


def test_addresses_of_hub_datasets() -> None:
    found = HubText.parse("hf://datasets/allenai/c4@main/en/*.json.gz?name=en&split=validation")
    assert (found.repo, found.revision, found.files) == ("allenai/c4", "main", "en/*.json.gz")
    assert (found.name, found.split) == ("en", "validation")
    assert HubText.parse("hf://datasets/a/b").split == "train"
