"""How many bytes of text each token of a vocabulary stands for, so that losses of different tokenizers compare.

Known for byte-level vocabularies (GPT-2's and those trained here), for those with byte fallback or Metaspace (Llama's),
and for WordPiece; special tokens stand for no text. Of any other kind nothing is claimed.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from pico_train.data.encoding import BYTE_LEVEL, plain_definition

_FALLBACK = re.compile(r"<0x[0-9A-Fa-f]{2}>")


def token_bytes(directory: Path) -> np.ndarray | None:
    """Bytes of each token of the tokenizer in `directory`, (largest id + 1,) int64; None where they are not known.

    Raises:
        DataError: it is no tokenizer, or a damaged one.
    """
    definition = plain_definition(directory)
    count = _counter(definition)
    vocabulary = _vocabulary(definition["model"])
    if count is None or vocabulary is None:
        return None
    added = definition["added_tokens"]
    sizes = np.zeros(1 + max([*vocabulary.values(), *(token["id"] for token in added)], default=0), np.int64)
    for token, number in vocabulary.items():
        size = count(token)
        if size is None:
            return None
        sizes[number] = size
    for token in added:
        sizes[token["id"]] = 0 if token.get("special") else len(token["content"].encode("utf-8", "surrogatepass"))
    return sizes


def _vocabulary(model: dict[str, Any]) -> dict[str, int] | None:
    """Token → id."""
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, list):  # Unigram: pairs of a token and its score
        pairs = [entry for entry in vocabulary if isinstance(entry, list) and entry and isinstance(entry[0], str)]
        return {entry[0]: number for number, entry in enumerate(pairs)} if len(pairs) == len(vocabulary) else None
    if isinstance(vocabulary, dict) and all(isinstance(n, int) and 0 <= n < 2**24 for n in vocabulary.values()):
        return vocabulary
    return None


def _counter(definition: dict[str, Any]) -> Any:
    """A function from a token of the vocabulary to its bytes, or to None; None where the kind is not known."""
    steps = json.dumps([definition.get("pre_tokenizer"), definition.get("normalizer")])
    if '"ByteLevel"' in steps:
        chars = frozenset(BYTE_LEVEL.values())
        # A token that is not written in bytes (an added one that stands in the vocabulary too) is overwritten later.
        return lambda token: len(token) if chars.issuperset(token) else len(token.encode("utf-8", "surrogatepass"))
    kind, unknown = definition["model"].get("type", "BPE"), definition["model"].get("unk_token")
    if kind == "WordPiece":
        prefix = definition["model"].get("continuing_subword_prefix", "##")
        return lambda token: 0 if token == unknown else len(token.removeprefix(prefix).encode())
    if "▁" in steps or definition["model"].get("byte_fallback"):
        return lambda token: 1 if _FALLBACK.fullmatch(token) else len(token.replace("▁", " ").encode())
    return None


def bytes_of(rows: list[np.ndarray], sizes: np.ndarray) -> np.ndarray:
    """Bytes of the predicted tokens of each document, all but its first, (documents,) int64."""
    return np.array([int(sizes[np.minimum(row[1:], len(sizes) - 1)].sum()) for row in rows], np.int64)
