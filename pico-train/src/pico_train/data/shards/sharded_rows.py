"""Rows by number out of many shards: which shard holds a row, and reading it there.

Letters: k rows asked for, S shards, T + 1 = `row_len` ids per row.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np

from pico_train.counting import counted
from pico_train.data.shards.parquet import Layout
from pico_train.data.shards.reader import GroupCache, ShardReader
from pico_train.errors import DataError

OPEN_SHARDS = 128
"""Shards held open at once."""
FEW_SHARDS = 4
"""The same where shards come and go: a file that is open takes its space even when it was deleted."""


@dataclass(frozen=True)
class ShardIndex:
    """Which shard holds which rows."""

    starts: np.ndarray
    """(S + 1,) int64: first row of each shard, and the number of rows."""

    @classmethod
    def of(cls, counts: Sequence[int] | np.ndarray) -> ShardIndex:
        """The index of shards with these numbers of rows."""
        return cls(np.concatenate([[0], np.cumsum(np.asarray(counts, np.int64))]).astype(np.int64))

    @property
    def n_rows(self) -> int:
        """Rows of all shards."""
        return int(self.starts[-1])

    def locate(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shard, and row in that shard, of each row `ids` (k,): two (k,) int64. Shards without rows are passed over."""
        shards = np.searchsorted(self.starts, ids, side="right") - 1
        return shards, ids - self.starts[shards]


class ShardedRows:
    """Rows of a list of shards, each of which `path_of` puts on disk. Safe to use from several threads."""

    def __init__(
        self,
        counts: Sequence[int] | np.ndarray,
        path_of: Callable[[int], Path],
        *,
        row_len: int,
        vocab_size: int,
        open_shards: int = OPEN_SHARDS,
    ) -> None:
        self.index = ShardIndex.of(counts)
        self.row_len, self.vocab_size = row_len, vocab_size
        self._path_of, self._open_shards = path_of, open_shards
        self._cache = GroupCache()
        self._open: OrderedDict[int, ShardReader] = OrderedDict()
        self._layouts: dict[int, Layout] = {}
        self._lock = Lock()

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """The rows `ids` (k,), in that order: (k, row_len) int32.

        Raises:
            DataError: a row does not exist, is damaged, has another length, or holds an id beyond the vocabulary.
        """
        out = np.empty((len(ids), self.row_len), np.int32)
        shards, local = self._locate(ids)
        for first, last in _runs(shards):
            shard = int(shards[first])
            reader = self._reader(shard)
            reader.rows(local[first:last], out[first:last])
        self._check(ids, out)
        return out

    def sources(self, ids: np.ndarray) -> list[str]:
        """Where the rows `ids` (k,) are from; empty texts where the shards do not say."""
        shards, local = self._locate(ids)
        found: list[str] = []
        for first, last in _runs(shards):
            found += self._reader(int(shards[first])).sources(local[first:last])
        return found

    def paths(self) -> list[Path]:
        """The shards, put on this disk where they are not there yet."""
        return [self._path_of(shard) for shard in range(len(self.index.starts) - 1)]

    def _locate(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if len(ids) and (ids.min() < 0 or ids.max() >= self.index.n_rows):
            raise DataError(f"row {int(ids.max())} does not exist: the corpus has rows 0 to {self.index.n_rows - 1}")
        return self.index.locate(ids)

    def _check(self, ids: np.ndarray, rows: np.ndarray) -> None:
        if not rows.size:
            return
        if rows.view(np.uint32).max() >= self.vocab_size:
            row, place = np.argwhere(rows.view(np.uint32) >= self.vocab_size)[0]
            raise DataError(
                f"row {int(ids[row])} holds token id {int(rows[row, place])} at position {int(place)}, beyond the "
                f"vocabulary of {self.vocab_size}: name the tokenizer that the corpus was made with"
            )

    def _reader(self, shard: int) -> ShardReader:
        with self._lock:
            reader = self._open.get(shard)
            if reader is not None:
                self._open.move_to_end(shard)
                return reader
        path, reader = self._opened(shard)
        expected = int(self.index.starts[shard + 1] - self.index.starts[shard])
        if reader.layout.n_rows != expected:
            raise DataError(
                f"{path}: holds {counted(reader.layout.n_rows, 'row')}, not {expected}: it is not the shard it was"
            )
        with self._lock:
            self._layouts[shard] = reader.layout
            self._open[shard] = reader
            if len(self._open) > self._open_shards:
                self._open.popitem(last=False)
        return reader

    def _opened(self, shard: int) -> tuple[Path, ShardReader]:
        """The shard, open. Another process may clear it from a shared cache just before: then it is asked for again."""
        for _ in range(3):
            path = self._path_of(shard)
            with contextlib.suppress(FileNotFoundError):
                return path, ShardReader(path, self.row_len, cache=self._cache, layout=self._layouts.get(shard))
        raise DataError(f"{path}: no such shard")


def _runs(shards: np.ndarray) -> list[tuple[int, int]]:
    """Stretches of equal values in (k,) shards: first and last + 1 of each."""
    if not len(shards):
        return []
    breaks = (np.flatnonzero(np.diff(shards)) + 1).tolist()
    return list(zip([0, *breaks], [*breaks, len(shards)], strict=True))
