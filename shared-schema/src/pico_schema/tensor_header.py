"""The header of a safetensors file: which tensors are where, known without reading one of them.

The layout (https://github.com/huggingface/safetensors, "Format"): the header's length as 8 bytes, little-endian; a JSON
header; the tensors' bytes, without gaps. A header is foreign input. Its length, the number of values in it, names,
shapes and offsets are checked against bounds and against the file's size before anything of that size is allocated;
what is accepted lies inside the file, without overlap or holes, no name twice, as the format demands. No tensor is
read here, and no meaning is given to its name.

`read_header` reads through a function, `read_file_header` from a disk. A Hub store gives a function that fetches
ranges: it is asked for the first `FIRST_READ` bytes, and once more only where the header is longer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import TypeGuard

from pico_schema import strict_json
from pico_schema.errors import TensorHeaderError
from pico_schema.files import open_regular

FIRST_READ = 16 << 10
"""Bytes read first, the header's length and beginning: most headers end within them."""
MAX_HEADER = 100 << 20
"""Largest header accepted, in bytes: the format's own limit."""
MAX_TENSORS = 100_000
MAX_NAME = 2_000
"""Longest name of a tensor, in characters."""
MAX_DIMENSIONS = 8

ReadRange = Callable[[int, int], "bytes | bytearray | memoryview"]
"""(offset, length) → exactly that many bytes of the file."""

DTYPE_SIZES: dict[str, int] = {
    "F64": 8,
    "I64": 8,
    "U64": 8,
    "C64": 8,
    "F32": 4,
    "I32": 4,
    "U32": 4,
    "F16": 2,
    "BF16": 2,
    "I16": 2,
    "U16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "F8_E8M0": 1,
}
"""Bytes of one element, by the format's name for its type."""

_MOST_MARKS = MAX_TENSORS * (3 + (MAX_DIMENSIONS - 1) + 1 + 3)
"""Most opening brackets and commas of a header: an entry's own and its two lists', between dimensions, between offsets,
after each of three fields."""
# Begins with so many of them outside strings. Possessive throughout: linear in the text, without memory of its own.
_MORE_MARKS = re.compile(
    rb"""(?: (?: [^",\[{]++ | "(?: [^"\\]++ | \\. )*+"? )*+ [,\[{] ){%d}+""" % (_MOST_MARKS + 1), re.DOTALL | re.VERBOSE
)


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """What a tensor is and where it lies in its file."""

    dtype: str
    """The format's name of the elements' type: F32, BF16, …; a key of `DTYPE_SIZES`."""
    shape: tuple[int, ...]
    """Dimensions; empty for a single number."""
    offset: int
    """First byte, from the start of the file."""
    nbytes: int
    """Length in bytes."""


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """What a safetensors file holds."""

    metadata: dict[str, str]
    """Text that the writer left in ``__metadata__``."""
    tensors: dict[str, TensorEntry]
    """Tensors by name, in the header's order."""


def read_file_header(path: Path, *, max_header: int = MAX_HEADER) -> TensorHeader:
    """The header of a safetensors file on disk.

    Raises:
        TensorHeaderError: as `read_header` says.
        OSError: the file cannot be read.
    """
    with open_regular(path) as raw, BufferedReader(raw) as file:

        def read(offset: int, length: int) -> bytes:
            file.seek(offset)
            return file.read(length)

        return read_header(read, path.stat().st_size, where=str(path), max_header=max_header)


def read_header(read: ReadRange, size: int, *, where: str, max_header: int = MAX_HEADER) -> TensorHeader:
    """The header of a safetensors file of `size` bytes, with one call of `read`, or two where it is long.

    Args:
        read: Gives bytes of the file: the first `FIRST_READ`, then the rest of the header. Its exceptions pass through.
        size: The file's size in bytes.
        where: The file's path or address, for messages.
        max_header: Largest header to accept, in bytes; less than the format's own limit where bytes are dear.

    Raises:
        TensorHeaderError: not a header, or it claims more than the file holds or the bounds allow.
    """
    if size < 8:
        raise TensorHeaderError(f"{where}: {size} bytes is too short for a safetensors file")
    content = _exactly(read, 0, min(FIRST_READ, size), where)
    length = int.from_bytes(content[:8], "little")
    if length > min(max_header, size - 8):
        raise TensorHeaderError(f"{where}: the header claims {length} bytes: not a safetensors file, or a damaged one")
    if 8 + length > len(content):
        content += _exactly(read, len(content), 8 + length - len(content), where)
    raw = _parse(content[8 : 8 + length], where)
    metadata = raw.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise TensorHeaderError(f"{where}: the header's metadata is not an object of texts: the file is damaged")
    start, tensors = 8 + length, dict[str, TensorEntry]()
    for name, value in raw.items():
        entry = _entry(value, start, size) if len(name) <= MAX_NAME else None
        if entry is None:
            raise TensorHeaderError(
                f"{where}: the header's entry for tensor {name[:200]!r} does not fit the file: it is damaged"
            )
        tensors[name] = entry
    if not _without_gaps(tensors.values(), start, size):
        raise TensorHeaderError(f"{where}: its tensors overlap or leave holes: the file is damaged or was cut")
    return TensorHeader(metadata, tensors)


def _exactly(read: ReadRange, offset: int, length: int, where: str) -> bytes:
    content = bytes(read(offset, length))
    if len(content) != length:
        raise TensorHeaderError(f"{where}: the header ends early: the file is truncated")
    return content


def _parse(text: bytes, where: str) -> dict[str, object]:
    """The header's JSON object."""
    # A value of two bytes takes up to thirty times as many once parsed, so those of a long text are counted before.
    if len(text) > _MOST_MARKS and _MORE_MARKS.match(text):
        raise TensorHeaderError(f"{where}: the header holds more values than {MAX_TENSORS} tensors have")
    try:
        raw = strict_json.parse(text)
    except ValueError as error:
        raise TensorHeaderError(
            f"{where}: the header is not valid JSON ({str(error)[:200]}): not a safetensors file, or a damaged one"
        ) from None
    if not isinstance(raw, dict) or len(raw) > MAX_TENSORS:
        raise TensorHeaderError(f"{where}: the header is not an object of at most {MAX_TENSORS} tensors")
    return raw


def _entry(value: object, start: int, size: int) -> TensorEntry | None:
    """A header entry, or None if type, shape, offsets and the file's size do not agree."""
    if not isinstance(value, dict):
        return None
    dtype, shape, offsets = value.get("dtype"), value.get("shape"), value.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in DTYPE_SIZES:
        return None
    if not _naturals(shape) or not _naturals(offsets) or len(shape) > MAX_DIMENSIONS or len(offsets) != 2:
        return None
    begin, end = offsets
    if not begin <= end <= size - start or math.prod(shape) * DTYPE_SIZES[dtype] != end - begin:
        return None
    return TensorEntry(dtype, tuple(shape), start + begin, end - begin)


def _naturals(values: object) -> TypeGuard[list[int]]:
    """Whether this is a list of integers of 0 to 2^62."""
    return isinstance(values, list) and all(type(value) is int and 0 <= value <= 2**62 for value in values)


def _without_gaps(tensors: Iterable[TensorEntry], start: int, size: int) -> bool:
    """Whether the tensors follow each other from the header's end to the file's, in whatever order."""
    end = start
    for offset, nbytes in sorted((entry.offset, entry.nbytes) for entry in tensors):
        if offset != end:
            return False
        end += nbytes
    return end == size
