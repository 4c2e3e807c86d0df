"""How documents lie in files, and what becomes of a record that holds none: refused, or passed over and counted.

What reads a file (`plain_text`, `json_lines`, `tables`, `hub_text`) gives records with the place where each is from;
here a record becomes a document.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pico_train.data.prepare.documents import Document
from pico_train.errors import DataError

Errors = Literal["refuse", "replace"]
OnBadRecord = Literal["refuse", "skip"]

LONGEST_RECORD = 256 * 2**20
"""Bytes of a line, or of a field of a table, beyond which a record is refused."""
BAD_RECORD = "bad_record"
"""The reason under which records that were passed over are counted."""
_PLACES = 5
REPLACE = "replace what cannot be read with --encoding-errors replace (data.encoding_errors=replace)"
"""What to do with bytes that are not text, but to convert the file."""


@dataclass
class BadRecords:
    """The first records that were passed over, to be named at the end. How many there are, the manifest counts."""

    places: dict[str, str] = field(default_factory=dict)
    """Where each of them is → what is wrong with it. Documents are read more than once; a record is noted once."""

    def note(self, where: str, why: str) -> None:
        """Remember one of them, if there are not enough of them yet."""
        if len(self.places) < _PLACES:
            self.places.setdefault(where, why)


@dataclass(frozen=True)
class TextLayout:
    """How documents lie in files."""

    column: str = "text"
    """Field or column that holds the text."""
    source_column: str = "source"
    """Field or column that says where a text is from, if there is one."""
    errors: Errors = "refuse"
    """What to do with bytes that are not UTF-8, and with text that UTF-8 cannot hold."""
    group_by_folder: bool = False
    """Whether a file's first folder is its source, rather than what its records or its name say."""
    on_bad_record: OnBadRecord = "refuse"
    """What to do with a record that holds no text: damaged, without the field, or with a null or a number in it."""

    @property
    def codec_errors(self) -> str:
        """`errors` in the words of Python's codecs."""
        return "replace" if self.errors == "replace" else "strict"


@dataclass(frozen=True)
class Record:
    """One line of a file of lines, or one row of a table."""

    where: str
    """Its file and line, or row, for messages."""
    fields: Mapping[str, Any]
    """What it holds; empty where nothing could be read."""
    problem: str = ""
    """Why it could not be read; empty if it could. `where` is not in it."""
    advice: str = ""
    """What to do about that."""


def record_documents(
    records: Iterable[Record], folder: str | None, label: str, layout: TextLayout, bad: BadRecords
) -> Iterator[Document]:
    """The documents that records hold. One that is passed over is a document without text, so that it is counted.

    Args:
        records: As they lie in one file.
        folder: The source of all of them; None if their own field or `label` says it.
        label: The source of those that state none.
        layout: Which field is the text, and what to do with records that have none.
        bad: Where records that are passed over are noted.

    Raises:
        DataError: a record is not as it should be, and such records are refused.
    """
    for record in records:
        problem, advice = (record.problem, record.advice) if record.problem else _problem(record, layout)
        if problem:
            if layout.on_bad_record == "refuse":
                raise DataError(f"{record.where}: {problem}{f': {advice}' if advice else ''}")
            bad.note(record.where, problem)
            yield Document.without_text(label, reason=BAD_RECORD)
            continue
        text, stated = record.fields[layout.column], record.fields.get(layout.source_column)
        if layout.errors == "replace":
            text = without_half_pairs(text)
        if folder is None and isinstance(stated, str) and stated:
            yield Document.of(text, source=without_half_pairs(stated), named=True)
        else:
            yield Document.of(text, source=folder or label, named=folder is not None)


def _problem(record: Record, layout: TextLayout) -> tuple[str, str]:
    """Why a record holds no document, and what to do about it; two empty texts if it holds one."""
    text = record.fields.get(layout.column)
    if not isinstance(text, str):
        there = layout.column in record.fields
        found = type(text).__name__ if text is not None else "null" if there else "nothing"
        names = ", ".join(map(str, list(record.fields)[:20])) or "none"
        return (
            f"{layout.column!r} holds {found}, not text (fields: {names})",
            "name the field with --text-column (data.text_column), or leave such records out with pico-train data "
            "prepare --on-bad-record skip",
        )
    if layout.errors == "refuse":
        half = half_pair(text)
        if half is not None:
            return (
                f"{layout.column!r} holds half of a surrogate pair (\\u{ord(text[half]):04x}, character {half}), which "
                "no text in UTF-8 can",
                "mend the record, or replace what cannot be written with --encoding-errors replace "
                "(data.encoding_errors=replace)",
            )
    return "", ""


def half_pair(text: str) -> int | None:
    """Place of the first half of a surrogate pair that stands alone in a text, or None."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start
    return None


def without_half_pairs(text: str) -> str:
    """The text with U+FFFD in the place of each half of a surrogate pair that stands alone."""
    if half_pair(text) is None:
        return text
    return "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)


def no_column(path: Path, column: str, names: list[str]) -> DataError:
    """The error for a table that has no column of that name."""
    return DataError(
        f"{path}: has no column {column} (its columns: {', '.join(names[:50]) or 'none'}): name the one that holds the "
        "text with --text-column (data.text_column)"
    )


def not_utf8(path: Path, where: str, start: bytes = b"") -> DataError:
    """The error for a file that is not UTF-8 at `where`; `start` are its first bytes, which may tell what it is."""
    utf16 = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    convert = utf16_advice(path) if utf16 else "convert the file"
    return DataError(f"{path}: not UTF-8 at {where}: {convert}, or {REPLACE}")


def not_text(path: Path, what: str, start: bytes) -> DataError:
    """The error for a file that holds what text does not; `start` are bytes around it, which may tell what it is."""
    convert = utf16_advice(path) if 3 * start.count(0) > len(start) else "it is no plain text: leave it out"
    return DataError(f"{path}: holds {what}: {convert}, or {REPLACE}")


def utf16_advice(path: Path) -> str:
    """What to do with a file that seems to be UTF-16."""
    return f"it looks like UTF-16: convert it (iconv -f UTF-16 -t UTF-8 {path.name})"
