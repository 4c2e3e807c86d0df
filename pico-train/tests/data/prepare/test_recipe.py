"""Which documents go where."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.corpora import make_text, tokens_config

from pico_train.data import tokenizer
from pico_train.data.corpus import open_corpus
from pico_train.data.shards import manifest as manifests
from pico_train.data.shards.manifest import CorpusManifest
from pico_train.errors import DataError

Prepare = Callable[..., CorpusManifest]


def all_rows(directory: Path, split: str = "train") -> np.ndarray:
    """Rows as an independent reader sees them: pyarrow, through Python lists."""
    manifest = manifests.read(directory)
    assert manifest is not None
    tables = [pq.read_table(directory / shard.file) for shard in manifest.splits[split].shards]
    return np.array([row for table in tables for row in table.column("input_ids").to_pylist()])


def test_copies_share_their_split(tmp_path: Path, prepare_text: Prepare) -> None:
    """Held out by hash: whatever is held out, no copy of it is trained on."""
    for number in range(60):
        for copy in ("a", "b"):
            (tmp_path / f"{number}{copy}.txt").write_text(make_text(number, 60))
    manifest = prepare_text([tmp_path], tmp_path / "c", val_fraction=0.3)
    train, val = set(map(tuple, all_rows(tmp_path / "c"))), set(map(tuple, all_rows(tmp_path / "c", "val")))
    assert manifest.splits["val"].n_documents % 2 == 0
    assert manifest.splits["val"].n_documents + manifest.splits["train"].n_documents == 120
    assert len(val) > 0
    assert len(train & val) < 0.05 * len(val)


def test_documents_that_are_also_held_out_are_left_out_of_train(tmp_path: Path, prepare_text: Prepare) -> None:
    for folder in ("train", "val"):
        (tmp_path / folder).mkdir()
    for number in range(20):
        (tmp_path / "train" / f"{number}.txt").write_text(make_text(number, 100))
    for number in (3, 7, 50):
        (tmp_path / "val" / f"renamed-{number}.txt").write_text(make_text(number, 100))
    (tmp_path / "train" / "empty.txt").write_text("")
    manifest = prepare_text([tmp_path / "train"], tmp_path / "c", val=(tmp_path / "val",), tokenizer="train:300")
    assert manifest.counts == {"also_held_out": 2, "empty": 1}
    assert manifest.splits["train"].n_documents == 18
    assert manifest.splits["val"].n_documents == 3


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """JSON lines, gzipped, of three sources, as evaluation sets come."""
    path = tmp_path / "eval.jsonl.gz"
    with gzip.open(path, "wt") as file:
        for number in range(60):
            record = {"text": make_text(number, 80), "source": ("c4", "wiki", "code")[number % 3], "id": number}
            file.write(json.dumps(record) + "\n")
    return path


def test_held_out_rows_have_one_source_each_and_at_most_k_per_source(
    lines: Path, tmp_path: Path, prepare_text: Prepare
) -> None:
    out = tmp_path / "paloma"
    prepare_text([lines], tmp_path / "for-its-tokenizer")
    manifest = prepare_text(
        [], out, val=(lines,), val_rows_per_source=15, tokenizer=str(tmp_path / "for-its-tokenizer" / "tokenizer")
    )
    assert manifest.splits["val"].sources == {"c4": 15, "code": 15, "wiki": 15}
    assert manifest.splits["train"].n_rows == 0
    encoder = tokenizer.load(out / "tokenizer")
    table = pq.read_table(out / manifest.splits["val"].shards[0].file)
    sources = dict(zip(("c4", "wiki", "code"), range(3), strict=True))
    for row, source in zip(table.column("input_ids").to_pylist(), table.column("source").to_pylist(), strict=True):
        documents = [number for number in range(60) if number % 3 == sources[source]]
        stream = "<|endoftext|>".join(make_text(number, 80) for number in documents)
        assert encoder.decode(row, skip_special_tokens=False) in stream
    with pytest.raises(DataError, match="holds no rows to train on, only a held-out split"):
        open_corpus(tokens_config(out))


def test_a_sample_takes_documents_by_hash(text_dir: Path, tmp_path: Path, prepare_text: Prepare) -> None:
    manifest = prepare_text([text_dir], tmp_path / "c", sample=0.5)
    taken = manifest.splits["train"].n_documents
    assert taken + manifest.counts["not_sampled"] == 40
    assert 10 <= taken <= 30  # binomial(40, 0.5): outside with a chance of 1 in 1,000, and fixed by the texts
