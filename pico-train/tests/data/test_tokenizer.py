"""Tokenizers that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from pico_train.data.tokenizer import describe, load
from pico_train.errors import DataError


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
