"""Reading rows of a shard that lies on disk: by positioned reads where it is stored plainly, else by decoding.

Letters as in `parquet`: k rows asked for, `row_len` ids per row.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from threading import Lock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pico_train.data.shards.page_header import MAX_HEADER, is_plain_run
from pico_train.data.shards.parquet import SOURCE, Layout, decode_group, read_exactly, read_layout
from pico_train.errors import DataError, StorageError

GROUP_CACHE_BYTES = 16 * 2**20
"""Decoded row groups kept, over all shards of a corpus."""


class GroupCache:
    """Decoded row groups, the most recently used ones up to a bound of bytes. Safe to share between threads."""

    def __init__(self, limit: int = GROUP_CACHE_BYTES) -> None:
        self._limit = limit
        self._lock = Lock()
        self._groups: OrderedDict[tuple[str, int], Future[np.ndarray]] = OrderedDict()

    def get(self, key: tuple[str, int], decode: Callable[[], np.ndarray]) -> np.ndarray:
        """The group `key`, decoded by one thread while others that want it wait."""
        with self._lock:
            future = self._groups.get(key)
            mine = future is None
            if future is None:
                future = self._groups[key] = Future()
            else:
                self._groups.move_to_end(key)
        if mine:
            try:
                future.set_result(decode())
            except BaseException as error:
                with self._lock:
                    self._groups.pop(key, None)
                future.set_exception(error)
                raise
            self._trim()
        return future.result()

    def _trim(self) -> None:
        with self._lock:
            done = [(key, future.result().nbytes) for key, future in self._groups.items() if _succeeded(future)]
            total = sum(size for _, size in done)
            for key, size in done[:-1]:
                if total <= self._limit:
                    break
                del self._groups[key]
                total -= size


def _succeeded(future: Future[np.ndarray]) -> bool:
    return future.done() and future.exception() is None


class ShardReader:
    """Rows of one shard. Safe to use from several threads; the file may be deleted while it is open.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: it is not a whole shard.
    """

    def __init__(self, path: Path, row_len: int, *, cache: GroupCache, layout: Layout | None = None) -> None:
        self.path, self.row_len, self._cache = path, row_len, cache
        self._file = path.open("rb")
        self._native = pa.OSFile(str(path))
        self._metadata: pq.FileMetaData | None = None
        self.layout = layout or read_layout(self._parquet, where=str(path), row_len=row_len)
        if layout is None and self.layout.offsets is not None:
            self._check_plain(self.layout.offsets)

    def rows(self, ids: np.ndarray, out: np.ndarray) -> None:
        """Fill `out` (k, row_len) int32, C-contiguous, with the rows `ids` (k,) of this shard.

        Raises:
            DataError: the shard is damaged, or a row has another length.
        """
        groups = self._groups_of(ids)
        starts, offsets = self.layout.starts, self.layout.offsets
        if offsets is None:
            for group in np.unique(groups):
                here = groups == group
                out[here] = self._decoded(int(group))[ids[here] - starts[group]]
            return
        width = 4 * self.row_len
        begins = offsets[groups] + (ids - starts[groups]) * width
        raw = out.data.cast("B")
        breaks = (np.flatnonzero(np.diff(begins) != width) + 1).tolist()
        handle, where = self._file.fileno(), str(self.path)
        for first, last in zip([0, *breaks], [*breaks, len(ids)], strict=True):
            read_exactly(handle, raw[first * width : last * width], int(begins[first]), where=where)

    def sources(self, ids: np.ndarray) -> list[str]:
        """The sources of rows `ids`; empty texts where the shard has no such column."""
        if not self.layout.has_source:
            return [""] * len(ids)
        groups = self._groups_of(ids)
        found: dict[int, str] = {}
        parquet = self._parquet()
        for group in np.unique(groups):
            try:
                column = parquet.read_row_group(int(group), columns=[SOURCE]).column(0)
            except OSError as error:  # Arrow's own errors of damaged bytes are others
                raise StorageError.unreadable(self.path, error) from error
            for row in ids[groups == group]:
                value = column[int(row - self.layout.starts[group])].as_py()
                found[int(row)] = "" if value is None else str(value)
        return [found[int(row)] for row in ids]

    def _groups_of(self, ids: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.layout.starts, ids, side="right") - 1

    def _parquet(self) -> pq.ParquetFile:
        """The shard as the Parquet library sees it, over a descriptor that this reader holds (reads are positioned)."""
        return pq.ParquetFile(self._native, metadata=self._metadata)

    def _check_plain(self, offsets: np.ndarray) -> None:
        """Each row group must be the run of bytes that the footer promises: its page header says so."""
        for group, offset in enumerate(offsets.tolist()):
            n_values = int(self.layout.starts[group + 1] - self.layout.starts[group]) * self.row_len
            begin, end = int(self.layout.chunks[group]), offset + 4 * n_values
            try:
                head = os.pread(self._file.fileno(), min(MAX_HEADER, end - begin), begin)
            except OSError as error:
                raise StorageError.unreadable(self.path, error) from error
            if not is_plain_run(head, chunk_size=end - begin, n_values=n_values):
                raise DataError(f"{self.path}: declares a plain layout that it does not have: write the shard again")

    def _decoded(self, group: int) -> np.ndarray:
        def decode() -> np.ndarray:
            return decode_group(self._parquet(), group, self.row_len, where=str(self.path))

        return self._cache.get((str(self.path), group), decode)
