"""Tensors read by range from safetensors files, from a disk or from anything else that can give bytes at an offset.

A file of GGUF is one of tensors too, with a header of its own (`gguf_header`), and told by its first bytes. A header is
foreign input: it is checked against bounds and against the file's size before anything is allocated. bfloat16 is
widened to float32 by its bits (no torch needed), and what is widened is marked with its type (`pico_analyze.stored`).
Names of tensors and what they mean are the stores' business.
"""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np

from pico_analyze.errors import DataError
from pico_analyze.stored import marked, narrowest
from pico_analyze.stores.checked_file import CheckedFile, file_size, read_file_range
from pico_analyze.stores.gguf_header import MAGIC, read_gguf_header
from pico_analyze.stores.lfs import MAX_POINTER, POINTER, WHAT_A_POINTER_IS, is_pointer
from pico_schema import TensorHeaderError
from pico_schema.tensor_header import (
    DTYPE_SIZES,
    FIRST_READ,
    MAX_HEADER,
    ReadRange,
    TensorEntry,
    TensorHeader,
    read_header,
)

FLOATS: dict[str, str] = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
"""The types of numbers that can be read → what they are stored as."""
NAMES: dict[str, str] = {"F16": "float16", "BF16": "bfloat16"}
"""What those that are widened are called, and marked with."""


class TensorFile:
    """A safetensors file of `size` bytes, read through `read`; the header is read and checked at once.

    Raises:
        DataError: it is a pointer of git LFS, or the header is not one, or claims more than the file holds or the
            bounds allow.
    """

    def __init__(self, read: ReadRange, size: int, *, where: str, max_header: int = MAX_HEADER) -> None:
        self._read = read
        self.where = where
        self.path: Path | None = None
        """Where it lies, of one that was opened by `open`."""
        if size < MAX_POINTER and is_pointer(read(0, min(size, len(POINTER)))):
            raise DataError(f"{where}: {WHAT_A_POINTER_IS}")
        try:
            header = _header(read, size, where=where, max_header=max_header)
        except TensorHeaderError as error:
            raise DataError(str(error)) from None
        self.metadata, self.tensors = header.metadata, header.tensors

    @classmethod
    def open(cls, path: Path, *, where: str | None = None) -> TensorFile:
        """A file on disk that is compared with nothing: one that this program itself has just written, of what lies at
        `where`, or one of which is to be found out what is wrong with it. It is opened for each read, so that no handle
        outlives it."""
        size = file_size(path)
        opened = cls(lambda offset, length: read_file_range(path, offset, length), size, where=where or str(path))
        opened.path = path
        return opened

    @classmethod
    def checked(cls, file: CheckedFile) -> TensorFile:
        """A file on disk of which no tensor is given out before all of it, header included, has the digest it must
        have."""
        opened = cls(file.peek, file_size(file.path), where=str(file.path))
        opened._read = file.read
        return opened

    def read(self, name: str, entry: int | None = None) -> np.ndarray:
        """One tensor, or one entry of its first axis, as float32, or float64 where it is stored so.

        Raises:
            DataError: no such tensor or entry, or one that does not hold floating-point numbers.
        """
        info = self._floating(name)
        if entry is None:
            return self._values(name, info, 0, info.nbytes).reshape(info.shape)
        if len(info.shape) < 2 or entry >= info.shape[0]:
            raise DataError(f"{self.where}: tensor {name!r} of shape {info.shape} has no entry {entry}")
        nbytes = info.nbytes // info.shape[0]
        return self._values(name, info, entry * nbytes, nbytes).reshape(info.shape[1:])

    def read_rows(self, name: str, first: int, n: int) -> np.ndarray:
        """Rows of a tensor, taken for a matrix with the columns of its last axis, in one range: (n, columns), float32
        or, where it is stored so, float64.

        Raises:
            DataError: no such tensor, one that does not hold floating-point numbers, or one that has no such rows.
        """
        info = self._floating(name)
        n_rows, columns = prod(info.shape[:-1]), info.shape[-1] if info.shape else 1
        if not 0 <= first <= first + n <= n_rows:
            raise DataError(f"{self.where}: tensor {name!r} has {n_rows} rows: there are no {n} from row {first}")
        nbytes = columns * DTYPE_SIZES[info.dtype]
        return self._values(name, info, first * nbytes, n * nbytes).reshape(n, columns)

    def _floating(self, name: str) -> TensorEntry:
        info = self.tensors.get(name)
        if info is None:
            raise DataError(f"{self.where}: it has no tensor {name!r}")
        if info.dtype not in FLOATS:
            raise DataError(f"{self.where}: tensor {name!r} is of type {info.dtype}: floating-point numbers are needed")
        return info

    def _values(self, name: str, info: TensorEntry, begin: int, nbytes: int) -> np.ndarray:
        content = self._read(info.offset + begin, nbytes)
        if len(content) != nbytes:
            raise DataError(f"{self.where}: tensor {name!r} ends early: the file is truncated")
        values = widen(np.frombuffer(content, dtype=FLOATS[info.dtype]), info.dtype)
        return marked(values, NAMES.get(info.dtype) or narrowest(values))


def _header(read: ReadRange, size: int, *, where: str, max_header: int) -> TensorHeader:
    """The header of a file, by the reader of its format; the beginning is read once."""
    first = bytes(read(0, min(FIRST_READ, size)))

    def again(offset: int, length: int) -> bytes | bytearray | memoryview:
        return first if (offset, length) == (0, min(FIRST_READ, size)) else read(offset, length)

    header = read_gguf_header if first.startswith(MAGIC) else read_header
    return header(again, size, where=where, max_header=max_header)


def widen(values: np.ndarray, dtype: str) -> np.ndarray:
    """Stored values as float32 (float64 stays): bfloat16, given as its 16 bits, is the upper half of a float32."""
    if dtype == "BF16":
        bits = values.astype(np.uint32)
        bits <<= 16
        return bits.view(np.float32)
    if dtype == "F16":
        return values.astype(np.float32)
    return values
