"""From documents to rows: what was in the text, beside plain text, is counted and said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.tokenizers_of_all_kinds import CUT, save
from tokenizers import Tokenizer

from pico_train.data.prepare import tokenize
from pico_train.data.shards import manifest as manifests
from pico_train.data.shards.manifest import CorpusManifest

Prepare = Callable[..., CorpusManifest]
END = "<|endoftext|>"


def rows(directory: Path, manifest: CorpusManifest) -> np.ndarray:
    shards = [pq.read_table(directory / shard.file) for shard in manifest.splits["train"].shards]
    return np.array([row for shard in shards for row in shard.column("input_ids").to_pylist()])


@pytest.mark.parametrize("workers", [1, 2])
def test_ends_of_text_are_ends_of_documents_and_names_in_the_text_are_counted(
    tmp_path: Path, prepare_text: Prepare, workers: int
) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.txt").write_text(f"document {number} {END} and{END} " * 40)
    manifest = prepare_text([folder], tmp_path / "c", workers=workers, shuffle_seed=None)
    assert manifest.special_tokens_in_text == {END: 480}
    assert (rows(tmp_path / "c", manifest) == manifest.tokenizer.eos_id).sum() in (5, 6)  # the last is in no full row
    assert manifests.met_in_text(manifest) == [f"special tokens' names in the text, encoded as text: {END!r} 480"]
    assert manifests.read(tmp_path / "c") == manifest


def test_what_is_unknown_is_counted_over_all_batches(
    tmp_path: Path, prepare_text: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenize, "BATCH_CHARS", 100)
    directory = save(CUT["bert"](), tmp_path / "tokenizer")
    (tmp_path / "a.txt").write_text("the fox \u2620 and \u2620\u2620 the dog\n" * 30)
    manifest = prepare_text([tmp_path / "a.txt"], tmp_path / "c", tokenizer=str(directory))
    oracle = Tokenizer.from_file(str(directory / "tokenizer.json"))
    ids = oracle.encode((tmp_path / "a.txt").read_text(), add_special_tokens=False).ids
    assert manifest.unknown_tokens == ids.count(oracle.token_to_id("[UNK]")) > 0
    assert manifests.met_in_text(manifest) == [
        f"{manifest.unknown_tokens} tokens stand for text that the tokenizer does not know"
    ]


@pytest.mark.parametrize("kind", ["roberta", "llama2", "t5", "albert"])
def test_a_long_document_gets_no_space_where_it_was_cut(tmp_path: Path, prepare_text: Prepare, kind: str) -> None:
    """Longer than a piece many times over, read in parts; the rows are the ids of the document as a whole."""
    directory = save(CUT[kind](), tmp_path / "tokenizer")
    text = "".join(f"Line {number}: the quick, brown fox (naïve) jumps.\n" for number in range(4000))
    (tmp_path / "a.txt").write_text(text)
    manifest = prepare_text([tmp_path / "a.txt"], tmp_path / "c", tokenizer=str(directory), shuffle_seed=None)
    oracle = Tokenizer.from_file(str(directory / "tokenizer.json"))
    ids = [*oracle.encode(text, add_special_tokens=False).ids, manifest.tokenizer.eos_id]
    found = rows(tmp_path / "c", manifest).reshape(-1)
    assert manifest.splits["train"].n_tokens == len(ids)
    assert found.tolist() == ids[: len(found)]
