"""What identifies data: fingerprints, manifests, tokenizers; and their refusal when they are not what they were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pico_train.data.fingerprint import check_unchanged
from pico_train.data.shards import manifest
from pico_train.data.shards.shard_corpus import ShardCorpus
from pico_train.data.tokenizer import describe, load
from pico_train.errors import DataError


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
