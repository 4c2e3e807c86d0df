"""Tensors read by range from safetensors files, from a disk or from anything else that can give bytes at an offset.

The header is foreign input: its size, the number of tensors, their shapes and their offsets are checked against bounds
and against the file's size before anything is allocated. bfloat16 is widened to float32 by its bits (no torch needed).
Names of tensors and what they mean are the stores' business.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import numpy as np

from pico_analyze.errors import DataError, StorageError

MAX_HEADER = 100 * 2**20
"""Largest header accepted, in bytes: the format's own limit."""
MAX_TENSORS = 100_000
MAX_DIMENSIONS = 8

ReadRange = Callable[[int, int], "bytes | bytearray | memoryview"]
"""(offset, length) → exactly that many bytes."""

_FLOATS: dict[str, str] = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_SIZES: dict[str, int] = {
    "F64": 8,
    "I64": 8,
    "U64": 8,
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


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies in its file and what it is."""

    dtype: str
    """The format's name: F32, BF16, …"""
    shape: tuple[int, ...]
    """Dimensions."""
    offset: int
    """First byte, from the start of the file."""
    nbytes: int
    """Length in bytes."""


class TensorFile:
    """A safetensors file of `size` bytes, read through `read`; the header is read and checked at once."""

    def __init__(self, read: ReadRange, size: int, *, where: str) -> None:
        self._read = read
        self.where = where
        self.metadata, self.tensors = read_header(read, size, where=where)

    @classmethod
    def open(cls, path: Path) -> TensorFile:
        """A file on disk. It is opened for each read, so that no handle outlives it."""
        try:
            size = path.stat().st_size
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from None
        return cls(lambda offset, length: read_file_range(path, offset, length), size, where=str(path))

    def read(self, name: str) -> np.ndarray:
        """One tensor as float32, or float64 where it is stored so.

        Raises:
            DataError: no such tensor, or one that does not hold floating-point numbers.
        """
        info = self.tensors.get(name)
        if info is None:
            raise DataError(f"{self.where}: it has no tensor {name!r}")
        if info.dtype not in _FLOATS:
            raise DataError(f"{self.where}: tensor {name!r} is of type {info.dtype}: floating-point numbers are needed")
        content = self._read(info.offset, info.nbytes)
        if len(content) != info.nbytes:
            raise DataError(f"{self.where}: tensor {name!r} ends early: the file is truncated")
        return widen(np.frombuffer(content, dtype=_FLOATS[info.dtype]), info.dtype).reshape(info.shape)


def widen(values: np.ndarray, dtype: str) -> np.ndarray:
    """Stored values as float32 (float64 stays): bfloat16, given as its 16 bits, is the upper half of a float32."""
    if dtype == "BF16":
        bits = values.astype(np.uint32)
        bits <<= 16
        return bits.view(np.float32)
    if dtype == "F16":
        return values.astype(np.float32)
    return values


def read_header(read: ReadRange, size: int, *, where: str) -> tuple[dict[str, str], dict[str, TensorInfo]]:
    """The metadata and the tensors of a safetensors file.

    Raises:
        DataError: the header is not one, or claims more than the file holds or the bounds allow.
    """
    if size < 8:
        raise DataError(f"{where}: {size} bytes is too short for a safetensors file")
    length = int.from_bytes(bytes(read(0, 8)), "little")
    if length > min(MAX_HEADER, size - 8):
        raise DataError(f"{where}: the header claims {length} bytes: not a safetensors file, or a damaged one")
    try:
        raw = json.loads(bytes(read(8, length)))
    except (ValueError, RecursionError):
        raise DataError(f"{where}: the header is not valid JSON: not a safetensors file, or a damaged one") from None
    if not isinstance(raw, dict) or len(raw) > MAX_TENSORS:
        raise DataError(f"{where}: the header is not an object of at most {MAX_TENSORS} tensors")
    metadata = raw.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise DataError(f"{where}: the header's metadata is not an object")
    start, tensors = 8 + length, {}
    for name, entry in raw.items():
        info = _tensor_info(entry, start, size)
        if info is None:
            raise DataError(
                f"{where}: the header's entry for tensor {name[:200]!r} does not fit the file: it is damaged"
            )
        tensors[name] = info
    return {str(key): str(value) for key, value in metadata.items()}, tensors


def _tensor_info(entry: object, start: int, size: int) -> TensorInfo | None:
    """A header entry, or None if type, shape, offsets and the file's size do not agree."""
    if not isinstance(entry, dict):
        return None
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if dtype not in _SIZES or not _naturals(shape, MAX_DIMENSIONS) or not _naturals(offsets, 2) or len(offsets) != 2:
        return None
    begin, end = offsets
    if not begin <= end <= size - start or math.prod(shape) * _SIZES[dtype] != end - begin:
        return None
    return TensorInfo(dtype, tuple(shape), start + begin, end - begin)


def _naturals(values: object, at_most: int) -> TypeGuard[list[int]]:
    """Whether this is a list of at most so many integers of 0 to 2^62."""
    return (
        isinstance(values, list)
        and len(values) <= at_most
        and all(type(value) is int and 0 <= value <= 2**62 for value in values)
    )


def read_file_range(path: Path, offset: int, length: int) -> bytearray:
    """`length` bytes of a file from `offset`; fewer if the file ends before."""
    try:
        content = bytearray(length)
        with path.open("rb", buffering=0) as file:
            file.seek(offset, os.SEEK_SET)
            view, done = memoryview(content), 0
            while done < length and (count := file.readinto(view[done:])):
                done += count
    except OSError as error:
        raise StorageError(f"{path}: reading failed ({error.strerror}): check the disk") from None
    if done < length:
        raise DataError(f"{path}: it ends after {offset + done} bytes: the file is truncated")
    return content
