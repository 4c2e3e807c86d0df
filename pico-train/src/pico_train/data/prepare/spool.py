"""The spool: rows in reading order, on disk, on their way to shards. Append-only, with points to fall back to.

A spool is three files: the ids (16 bits each where the vocabulary allows), a source number per row, and the names of
the sources. After a kill, everything behind the last committed point is cut off and written again.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pico_train.errors import DataError


class Spool:
    """Rows of one split. `point` says how much is there; one that is made with a point falls back to it."""

    def __init__(
        self, directory: Path, name: str, row_len: int, vocab_size: int, point: dict[str, int] | None = None
    ) -> None:
        self.row_len = row_len
        self.dtype = np.dtype("<u2" if vocab_size <= 2**16 else "<i4")
        self.n_rows = (point or {}).get("rows", 0)
        self._n_sources = (point or {}).get("sources", 0)
        self._text_bytes = (point or {}).get("text_bytes", 0)
        self._recent: OrderedDict[str, int] = OrderedDict()
        paths = [directory / f"{name}.{part}" for part in ("ids", "row_sources", "source_ends", "source_names")]
        self._ids, self._rows, self._ends, self._names = (_open(path) for path in paths)
        lengths = (self.n_rows * row_len * self.dtype.itemsize, 4 * self.n_rows, 8 * self._n_sources, self._text_bytes)
        for path, handle, length in zip(paths, self._handles(), lengths, strict=True):
            if os.fstat(handle).st_size < length:
                raise DataError(f"{path}: shorter than was recorded: delete {directory} and prepare again")
            os.ftruncate(handle, length)
            os.lseek(handle, 0, os.SEEK_END)

    def _handles(self) -> tuple[int, int, int, int]:
        return self._ids, self._rows, self._ends, self._names

    def close(self) -> None:
        """Give the file descriptors back."""
        for handle in self._handles():
            os.close(handle)

    def source_number(self, name: str) -> int:
        """The number of a source. A name seen long ago may get a second number: names, not numbers, are compared."""
        known = self._recent.get(name)
        if known is not None:
            self._recent.move_to_end(name)
            return known
        encoded = name.encode("utf-8", "surrogatepass")
        _write(self._names, encoded)
        self._text_bytes += len(encoded)
        _write(self._ends, np.int64(self._text_bytes).tobytes())
        number = self._recent[name] = self._n_sources
        self._n_sources += 1
        if len(self._recent) > 4096:
            self._recent.popitem(last=False)
        return number

    def append(self, rows: np.ndarray, sources: np.ndarray) -> None:
        """Add (k, row_len) rows and the numbers of their sources."""
        if len(rows):
            _write(self._ids, rows.astype(self.dtype).tobytes())
            _write(self._rows, sources.astype("<i4").tobytes())
            self.n_rows += len(rows)

    def point(self) -> dict[str, int]:
        """Where the spool ends: the point to fall back to, once it is synced."""
        return {"rows": self.n_rows, "sources": self._n_sources, "text_bytes": self._text_bytes}

    def sync(self) -> None:
        """Make all that was added durable."""
        for handle in self._handles():
            os.fsync(handle)

    def read(self, ids: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """Rows by number, in any order: (k, row_len) int32 and their k sources."""
        width = self.row_len * self.dtype.itemsize
        raw = np.empty((len(ids), self.row_len), self.dtype)
        for place in np.argsort(ids, kind="stable"):
            raw[place] = np.frombuffer(_read(self._ids, width, int(ids[place]) * width), self.dtype)
        return raw.astype(np.int32), self.read_sources(ids)

    def read_sources(self, ids: np.ndarray) -> list[str]:
        """Sources of rows by number, in any order."""
        numbers = [int.from_bytes(_read(self._rows, 4, int(row) * 4), "little") for row in ids]
        names = {number: self._source_name(number) for number in set(numbers)}
        return [names[number] for number in numbers]

    def _source_name(self, number: int) -> str:
        begin = int.from_bytes(_read(self._ends, 8, 8 * number - 8), "little") if number else 0
        end = int.from_bytes(_read(self._ends, 8, 8 * number), "little")
        return _read(self._names, end - begin, begin).decode("utf-8", "replace")


@dataclass(frozen=True)
class Stretch:
    """Rows that follow each other in a spool, numbered from 0: one split of the corpus."""

    spool: Spool
    """Where they are."""
    first: int
    """Number of the first one there."""
    n_rows: int
    """How many there are."""

    @property
    def row_len(self) -> int:
        """Ids of a row."""
        return self.spool.row_len

    def read(self, ids: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """Rows by number, in any order: (k, row_len) int32 and their k sources."""
        return self.spool.read(ids + self.first)

    def read_sources(self, ids: np.ndarray) -> list[str]:
        """Sources of rows by number, in any order."""
        return self.spool.read_sources(ids + self.first)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)


def _write(handle: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(handle, view) :]


def _read(handle: int, size: int, offset: int) -> bytes:
    content = os.pread(handle, size, offset)
    if len(content) != size:
        raise DataError("the spool of an interrupted preparation is damaged: delete it and prepare again")
    return content
