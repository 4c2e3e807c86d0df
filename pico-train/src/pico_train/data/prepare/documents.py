"""A document: one text, where it is from, and the digest by which its copies are recognised."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

DIGEST_BYTES = 16


@dataclass(frozen=True)
class Document:
    """One text of a corpus. Its text may be larger than memory: it is read in parts, again at each call."""

    source: str
    """Where it is from: the name in its record, or of its file."""
    digest: bytes
    """128 bits of the text's BLAKE2b hash: equal texts have equal digests."""
    parts: Callable[[], Iterable[str]]
    """The text, in parts that join to the whole."""
    named: bool = False
    """Whether `source` was stated in the record (and not just the file's name)."""
    reason: str = "empty"
    """Why it is left out, where it has no text."""

    @classmethod
    def of(cls, text: str, *, source: str, named: bool = False) -> Document:
        """The document of a text that is in memory."""
        return cls(source, digest([text]), lambda: (text,), named)

    @classmethod
    def without_text(cls, source: str, *, reason: str) -> Document:
        """What stands in the place of a record that was passed over: it is counted under `reason`, and left out."""
        return cls(source, EMPTY, lambda: (), reason=reason)


def digest(parts: Iterable[str]) -> bytes:
    """128 bits of the BLAKE2b hash of a text in UTF-8 (what cannot be encoded, lone surrogates, counts by its code)."""
    state = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        state.update(part.encode("utf-8", "surrogatepass"))
    return state.digest()


def fraction(document_digest: bytes) -> float:
    """A document's place in [0, 1), uniform over texts: copies of a text have the same, so they share their split."""
    return int.from_bytes(document_digest[:8], "big") / 2**64


EMPTY = digest([])
"""Digest of a document without text."""
