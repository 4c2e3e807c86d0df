"""Manifests of prepared corpora that cannot be trusted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pico_train.data.shards import manifest
from pico_train.errors import DataError


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not a corpus manifest: the file is damaged"),
        (b"[]", "not a corpus manifest"),
        (b'{"format": "9.0"}', r"format 9\.0 is newer than this pico-train reads: pip install -U pico-train"),
        (b'{"format": "1.0"}', "producer: Field required"),
        (b"[" * 100_000 + b"]" * 100_000, "not a corpus manifest: the file is damaged"),
        (b'{"format": "1.0", "format": "9.0"}', "not a corpus manifest"),
        (b'{"format": "1.0", "seq_len": ' + b"9" * 5000 + b"}", "not a corpus manifest"),
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


@pytest.mark.parametrize("n_rows", [0, 2**62, 10**19])
def test_numbers_of_rows_are_those_of_the_shards(n_rows: int, corpus_dir: Path) -> None:
    raw = json.loads((corpus_dir / manifest.FILE).read_text())
    for part in (raw["splits"]["train"], raw["splits"]["train"]["shards"][0]):
        before, part["n_rows"] = part["n_rows"], n_rows
        with pytest.raises(DataError, match=r"n_rows is \d+, its shards hold|less than or equal|not a corpus manifest"):
            manifest.parse(json.dumps(raw).encode(), where="x")
        part["n_rows"] = before
