"""Files of lines: one JSON object a line, or a table in CSV or TSV under a line of names. Read line by line."""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from pico_train.data.prepare import opening
from pico_train.data.prepare.records import (
    LONGEST_RECORD,
    REPLACE,
    Record,
    TextLayout,
    no_column,
    not_text,
    not_utf8,
    utf16_advice,
)
from pico_train.errors import DataError

JSON_EXPECTED = "one JSON object per line is expected"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def json_records(path: Path, layout: TextLayout) -> Iterator[Record]:
    """The objects in a file of JSON lines. Blank lines are none.

    Raises:
        DataError: a compressed file that is damaged.
        StorageError: the disk failed.
    """
    with opening.open_text(path) as file:
        for number, line in _numbered_lines(file):
            where = f"{path}, line {number}"
            if len(line) > LONGEST_RECORD:
                yield Record(where, {}, f"longer than {LONGEST_RECORD} bytes", JSON_EXPECTED)
            elif not line.isspace():
                yield _json_record(path, where, line, layout, first=number == 1)


def _json_record(path: Path, where: str, line: bytes, layout: TextLayout, *, first: bool) -> Record:
    try:
        text = line.decode("utf-8-sig" if first else "utf-8", layout.codec_errors)
        value = _STRICT.decode(text)
    except UnicodeDecodeError as error:
        utf16 = first and line.startswith(_UTF16)
        convert = utf16_advice(path) if utf16 else "convert the file"
        return Record(where, {}, f"not UTF-8 at byte {error.start}", f"{convert}, or {REPLACE}")
    except RecursionError:
        return Record(where, {}, "not JSON that can be read (it is nested too deeply)", JSON_EXPECTED)
    except ValueError as error:
        advice = utf16_advice(path) if 3 * line.count(0) > len(line) else JSON_EXPECTED
        return Record(where, {}, f"not JSON ({str(error)[:100]})", advice)
    if isinstance(value, dict):
        return Record(where, value)
    return Record(where, {}, f"a JSON object was expected, found {type(value).__name__}", JSON_EXPECTED)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object that means one thing. (What half a surrogate pair means is the text layout's to say, so that lines are
    not read by `strict_json`.)"""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(name for name in found if names.count(name) > 1)[:100]!r} is there twice")
    return found


_STRICT = json.JSONDecoder(object_pairs_hook=_object)
"""One for all lines: making one takes as long as a line does."""


def _numbered_lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers, from 1. Of one that is too long, a first part that is too long, too."""
    number = 0
    while line := file.readline(LONGEST_RECORD + 1):
        number += 1
        yield number, line
        while len(line) > LONGEST_RECORD and not line.endswith(b"\n"):
            line = file.readline(opening.BLOCK)  # the rest of it, which nobody needs
            if len(line) < opening.BLOCK:
                break


def csv_records(path: Path, layout: TextLayout) -> Iterator[Record]:
    """The rows of a table in text, commas or (in files ending in .tsv) tabs between its fields.

    Raises:
        DataError: no column of that name; bytes that are not UTF-8, or a compressed file that is damaged.
        StorageError: the disk failed.
    """
    csv.field_size_limit(LONGEST_RECORD)
    with opening.open_text(path) as file:
        tabs = opening.ending(path).startswith(".tsv")
        rows = csv.reader(_text_lines(path, file, layout), delimiter="\t" if tabs else ",", strict=True)
        names: list[str] | None = None
        while True:
            where = f"{path}, line {rows.line_num + 1}"
            try:
                row = next(rows, None)
            except csv.Error as error:
                yield Record(where, {}, f"not a row of a table ({error})", "see to its quotes")
                continue
            if row is None:
                return
            if names is None:
                names = row
                if layout.column not in names:
                    raise no_column(path, layout.column, names)
            elif len(row) == len(names):
                yield Record(where, dict(zip(names, row, strict=True)))
            elif row:  # an empty line is none
                yield Record(
                    where, {}, f"has {len(row)} fields, the first line {len(names)}", "see to its commas and quotes"
                )


def _text_lines(path: Path, file: BinaryIO, layout: TextLayout) -> Iterator[str]:
    for number, line in _numbered_lines(file):
        if len(line) > LONGEST_RECORD:
            raise DataError(f"{path}, line {number}: longer than {LONGEST_RECORD} bytes: it is no table")
        if b"\0" in line and layout.errors == "refuse":
            raise not_text(path, f"a zero byte in line {number}", line[:64])
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8", layout.codec_errors)
        except UnicodeDecodeError as error:
            raise not_utf8(path, f"line {number}, byte {error.start}", line[:4]) from None
