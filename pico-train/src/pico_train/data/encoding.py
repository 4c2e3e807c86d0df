"""Text to ids: those of the whole text, with no truncation, no padding and no control tokens.

A special token's name that stands in a text (`<|endoftext|>` on a page about language models) is text like any other:
it is encoded as its characters, and counted. A tokenizer that makes the control token of it all the same, whatever it
is told, is refused at the first such text; so is one that drops characters without a sign. What the tokenizer does not
know and marks as unknown is counted.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pico_train.data.cutting import without_prepend
from pico_train.errors import DataError
from pico_train.tokenizer_files import FILES, build, failed, named_tokens, read_definition

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class TextPart:
    """A text, or a piece of one."""

    text: str
    """Its characters."""
    begins: bool = True
    """Whether the text begins here."""
    where: str = "the text"
    """What it is, for messages."""


@dataclass
class Found:
    """What was met in texts, beside plain text."""

    special: Counter[str] = field(default_factory=Counter)
    """Names of special tokens, encoded as text, and how often."""
    unknown: int = 0
    """Tokens that stand for what the tokenizer does not know."""


class TextEncoder:
    """Encodes texts, or pieces of them that were cut at the tokenizer's `Cuts`."""

    def __init__(self, directory: Path) -> None:
        """Read the tokenizer in `directory`.

        Raises:
            DataError: it is none, it is damaged, or it drops what it does not know.
        """
        definition = plain_definition(directory)
        self._path = directory / FILES[0]
        self._begin = build(definition, directory)
        self._begin.encode_special_tokens = True
        self._rest = self._begin
        rest = without_prepend(definition.get("normalizer"))
        if rest != definition.get("normalizer"):
            self._rest = build(definition | {"normalizer": rest}, directory)
            self._rest.encode_special_tokens = True
        names = [token["content"] for token in definition["added_tokens"] if token.get("special")]
        names += [name for name in named_tokens(directory).values() if self._begin.token_to_id(name) is not None]
        self._names = _any_of(names)
        self._unknown = _unknown_id(definition["model"], self._begin)
        ids = {number for name in names if (number := self._begin.token_to_id(name)) is not None}
        if self._unknown != self._begin.token_to_id(named_tokens(directory).get("eos_token", "")):
            ids.discard(-1 if self._unknown is None else self._unknown)  # else the unknown would end the document
        self._control = np.zeros(2 + max(ids, default=0), np.bool_)
        """By id, whether a token is one that no text may become; the last stands for all larger ids."""
        self._control[sorted(ids)] = True
        self._lost = lost_bytes(definition, self._path)

    def encode(self, parts: Sequence[TextPart], found: Found) -> list[np.ndarray]:
        """Ids of each part, (n,) int32; what stood in them is added to `found`.

        Raises:
            DataError: the tokenizer makes a control token of text, drops a part of it, or fails on it.
        """
        encoded: dict[int, np.ndarray] = {}
        for tokenizer, begins in ((self._begin, True), (self._rest, False)):
            places = [place for place, part in enumerate(parts) if part.begins is begins]
            encoded |= zip(places, self._ids(tokenizer, [parts[place] for place in places]), strict=True)
        for place, part in enumerate(parts):
            if self._names is not None:
                found.special.update(self._names.findall(part.text))
            if self._unknown is not None:
                found.unknown += int(np.count_nonzero(encoded[place] == self._unknown))
            self._check(part, encoded[place])
        return [encoded[place] for place in range(len(parts))]

    def _ids(self, tokenizer: Tokenizer, parts: Sequence[TextPart]) -> list[np.ndarray]:
        if not parts:
            return []
        try:
            encodings = tokenizer.encode_batch_fast([part.text for part in parts], add_special_tokens=False)
        except BaseException as error:
            raise failed(error, self._path, f"cannot encode {parts[0].where}") from None
        return [np.asarray(encoding.ids, np.int32) for encoding in encodings]

    def _check(self, part: TextPart, ids: np.ndarray) -> None:
        control = self._control[np.minimum(ids, len(self._control) - 1)]
        if control.any():
            number = int(ids[control.argmax()])
            raise DataError(
                f"{part.where}: the tokenizer makes its control token {self._begin.id_to_token(number)!r} ({number}) "
                "of plain text and cannot be kept from it: take that out of the text, or use another tokenizer"
            )
        if self._lost:
            lost = set(part.text.encode("utf-8", "surrogatepass")) & self._lost
            if lost:
                raise DataError(
                    f"{part.where}: the tokenizer has no token for byte 0x{min(lost):02x} and would drop it: use one "
                    "whose vocabulary has all bytes"
                )


def plain_definition(directory: Path) -> dict[str, Any]:
    """A tokenizer's definition in which every token that its configuration names as special is special.

    Raises:
        DataError: there is none, or a file is damaged.
    """
    definition = read_definition(directory)
    named = set(named_tokens(directory).values())
    for token in definition["added_tokens"]:
        token["special"] = bool(token.get("special")) or token["content"] in named
    return definition


def _any_of(names: Sequence[str]) -> re.Pattern[str] | None:
    """A pattern that finds the longest of these names at each place."""
    ordered = sorted({name for name in names if name}, key=lambda name: (-len(name), name))
    return re.compile("|".join(map(re.escape, ordered))) if ordered else None


def _unknown_id(model: dict[str, Any], tokenizer: Tokenizer) -> int | None:
    """Id of the token that the model gives for what it does not know."""
    if isinstance(model.get("unk_id"), int):
        return int(model["unk_id"])
    name = model.get("unk_token")
    return tokenizer.token_to_id(name) if isinstance(name, str) else None


def lost_bytes(definition: dict[str, Any], path: Path) -> frozenset[int]:
    """The bytes of UTF-8 that a byte-level tokenizer without an unknown token drops; empty where nothing is dropped.

    Raises:
        DataError: any character that is not in the vocabulary would be dropped.
    """
    model = definition["model"]
    if model.get("type", "BPE") != "BPE" or model.get("unk_token") or not isinstance(model.get("vocab"), dict):
        return frozenset()
    known = model["vocab"]
    if model.get("byte_fallback") and all(f"<0x{byte:02X}>" in known for byte in range(256)):
        return frozenset()
    if '"ByteLevel"' not in json.dumps([definition.get("pre_tokenizer"), definition.get("normalizer")]):
        raise DataError(
            f"{path}: a BPE without byte level, byte fallback or unknown token drops every character that is not in "
            "its vocabulary: give it an unk_token, or use another tokenizer"
        )
    return frozenset(byte for byte, char in BYTE_LEVEL.items() if char not in known)


def _byte_level() -> dict[int, str]:
    """The character that stands for each byte of UTF-8 in byte-level vocabularies (Radford et al. 2019, GPT-2)."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    table = {byte: chr(byte) for byte in shown} | {byte: chr(256 + place) for place, byte in enumerate(hidden)}
    never = {0xC0, 0xC1, *range(0xF5, 0x100)}  # no byte of any text in UTF-8
    return {byte: char for byte, char in table.items() if byte not in never}


BYTE_LEVEL = _byte_level()
