"""Parquet's page headers, as far as needed to prove that a column chunk is one plain run of int32.

A page header is a Thrift struct in the compact protocol; field numbers are those of parquet.thrift (PageHeader,
DataPageHeaderV2). Nothing is decoded here but the header: the values are then read where they stand.
"""

from __future__ import annotations

MAX_HEADER = 256
"""Bytes of a chunk's beginning that must hold the header; without statistics it has some 30."""

_BOOLEANS = {1: True, 2: False}
_DATA_PAGE_V2 = 3
_PLAIN = 0


def is_plain_run(beginning: bytes, *, chunk_size: int, n_values: int) -> bool:
    """Whether a column chunk is one uncompressed page whose last 4 × n_values bytes are its values.

    Args:
        beginning: The first bytes of the chunk, at least MAX_HEADER or all.
        chunk_size: Bytes of the chunk.
        n_values: Values it must hold, none of them missing.
    """
    try:
        header, length = _struct(beginning, 0)
        page = header[8]
        assert isinstance(page, dict)
        levels = page[5] + page[6]
        return (
            header[1] == _DATA_PAGE_V2
            and header[2] == header[3] == chunk_size - length == levels + 4 * n_values
            and page[1] == n_values
            and page[2] == 0
            and page[4] == _PLAIN
        )
    except (AssertionError, IndexError, KeyError, TypeError, ValueError):
        return False


def _struct(content: bytes, at: int) -> tuple[dict[int, object], int]:
    """Fields of a struct by number, and where it ends. Lists, maps and doubles do not occur and are not understood."""
    fields: dict[int, object] = {}
    number = 0
    while (head := content[at]) != 0:
        at += 1
        kind, step = head & 0x0F, head >> 4
        if step:
            number += step
        else:
            number, at = _zigzag(content, at)
        if kind in _BOOLEANS:
            fields[number] = _BOOLEANS[kind]
        elif kind in (4, 5, 6):
            fields[number], at = _zigzag(content, at)
        elif kind == 8:
            size, at = _varint(content, at)
            fields[number], at = content[at : at + size], at + size
        elif kind == 12:
            fields[number], at = _struct(content, at)
        else:
            raise ValueError(f"type {kind} does not occur in a page header")
    return fields, at + 1


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _zigzag(content: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(content, at)
    return (value >> 1) ^ -(value & 1), at
