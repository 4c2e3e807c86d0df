"""Parquet shards of token rows: how they are written, and how any row of one is read.

A shard has a column `input_ids` (lists of T + 1 ids) and may have a column `source`. Shards written here are stored
so that the ids of a row group are one uncompressed run of int32 in the file: a row is then read with one positioned
read, decoding nothing, whichever row it is. Any other Parquet file is decoded a row group at a time, through a small
cache. Both give the same rows.

Letters: T + 1 = `row_len` ids per row, k rows asked for, N rows in the shard.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pico_train.errors import DataError, StorageError

COLUMN = "input_ids"
SOURCE = "source"
ROW_GROUP_BYTES = 2**20
"""Size of a row group that is written: large enough to compress, small enough to hold many."""

_LAYOUT_KEY = b"pico.layout"
_PLAIN = b"plain-1"
_IDS = pa.list_(pa.field("element", pa.int32(), nullable=False))
_SCHEMA = pa.schema(
    [pa.field(COLUMN, _IDS, nullable=False), pa.field(SOURCE, pa.dictionary(pa.int32(), pa.string()), nullable=False)]
)


def rows_per_group(row_len: int) -> int:
    """Rows of a row group that is written."""
    return max(1, ROW_GROUP_BYTES // (4 * row_len))


def write_shard(
    target: Path | BinaryIO,
    blocks: Iterable[tuple[np.ndarray, Sequence[str]]],
    *,
    row_len: int,
    compression: str = "none",
) -> None:
    """Write one shard, a row group per block of at most `rows_per_group` rows.

    Args:
        target: File to write, replaced if it is there; or an open one, into which it is written.
        blocks: Pairs of (k, row_len) int32 ids and k sources.
        compression: "none" (rows are then read without decoding), "zstd" or another of Parquet's.

    Raises:
        OSError: the disk is full or fails.
    """
    with pq.ParquetWriter(
        target,
        _SCHEMA,
        compression=compression,
        use_dictionary=[SOURCE],
        write_statistics=False,
        data_page_size=2**30,
        data_page_version="2.0",
        store_schema=False,
    ) as writer:
        for ids, sources in blocks:
            assert ids.shape[1] == row_len
            writer.write_table(_table(ids, sources), row_group_size=len(ids))
        if compression == "none":
            writer.add_key_value_metadata({_LAYOUT_KEY: _PLAIN})


def _table(ids: np.ndarray, sources: Sequence[str]) -> pa.Table:
    k, row_len = ids.shape
    offsets = np.arange(0, (k + 1) * row_len, row_len, dtype=np.int32)
    flat = _array(pa.int32(), np.ascontiguousarray(ids, dtype=np.int32).reshape(-1))
    lists = pa.Array.from_buffers(_IDS, k, [None, pa.py_buffer(offsets)], children=[flat])
    numbers: dict[str, int] = {}
    codes = np.array([numbers.setdefault(source, len(numbers)) for source in sources], np.int32)
    labels = pa.DictionaryArray.from_arrays(_array(pa.int32(), codes), _texts(list(numbers)))
    return pa.Table.from_arrays([lists, labels], schema=_SCHEMA)


def _array(kind: pa.DataType, values: np.ndarray) -> pa.Array:
    """An Arrow view of a numpy array. (`pa.array` would do, but imports pandas: 40 MB and a third of a second.)"""
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def _texts(values: Sequence[str]) -> pa.Array:
    encoded = [value.encode("utf-8", "replace") for value in values]
    ends = np.cumsum([0, *map(len, encoded)]).astype(np.int32)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(encoded), buffers)


def _numpy(array: pa.Array) -> np.ndarray:
    """A numpy view of an Arrow array of numbers without missing values. (`to_numpy` would import pandas.)"""
    values = np.frombuffer(array.buffers()[1], dtype=array.type.to_pandas_dtype())
    return values[array.offset : array.offset + len(array)]


@dataclass(frozen=True)
class Layout:
    """Where the rows of a shard are in its file, from its footer."""

    n_rows: int
    """Rows of the shard."""
    starts: np.ndarray
    """(groups + 1,) int64: first row of each row group, and n_rows."""
    offsets: np.ndarray | None
    """(groups,) int64: byte at which the ids of each row group begin, or None where they must be decoded."""
    chunks: np.ndarray
    """(groups,) int64: byte at which the first column chunk, in a plain shard that of the ids, begins."""
    has_source: bool
    """Whether there is a column `source`."""


def read_layout(parquet: Callable[[], pq.ParquetFile], *, where: str, row_len: int) -> Layout:
    """Where the rows of a shard are.

    Args:
        parquet: Opens the shard.
        where: Name of the shard in errors.
        row_len: Ids that each row must have.

    Raises:
        DataError: not a Parquet file, cut short, or without a column of lists of integers named `input_ids`.
        StorageError: the disk failed.
    """
    try:
        opened = parquet()
        metadata, schema = opened.metadata, opened.schema_arrow
    except (pa.ArrowException, OSError, ValueError) as error:
        _raise_if_of_the_disk(error, where)
        raise DataError(
            f"{where}: not a whole Parquet file ({_first_line(error)}): it is cut short or damaged; "
            "fetch or write it again"
        ) from None
    check_schema(schema, where=where)
    counts = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)
    offsets = _plain_offsets(metadata, row_len)
    begins = [metadata.row_group(i).column(0).data_page_offset for i in range(metadata.num_row_groups)]
    return Layout(int(starts[-1]), starts, offsets, np.array(begins, np.int64), SOURCE in schema.names)


def check_schema(schema: pa.Schema, *, where: str) -> None:
    """Raise DataError unless `schema` has a column `input_ids` of lists of integers."""
    index = schema.get_field_index(COLUMN)
    if index < 0:
        raise DataError(f"{where}: has no column {COLUMN} (its columns: {', '.join(schema.names) or 'none'})")
    kind = schema.field(index).type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not is_list or not pa.types.is_integer(kind.value_type):
        raise DataError(f"{where}: column {COLUMN} holds {kind}, not lists of integers")


def _plain_offsets(metadata: pq.FileMetaData, row_len: int) -> np.ndarray | None:
    """Where the ids of each row group begin, if the file declares that they are one plain run, else None.

    In a data page the values come last, and the column chunk ends with its one page: so the run of
    rows × row_len × 4 bytes ends where the chunk ends.
    """
    if (metadata.metadata or {}).get(_LAYOUT_KEY) != _PLAIN:
        return None
    offsets = []
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        chunk = group.column(0)
        size = group.num_rows * row_len * 4
        plain = (
            chunk.path_in_schema.split(".")[0] == COLUMN
            and chunk.compression == "UNCOMPRESSED"
            and chunk.physical_type == "INT32"
            and not chunk.has_dictionary_page
            and chunk.num_values == group.num_rows * row_len
            and chunk.total_compressed_size >= size
        )
        if not plain:
            return None
        offsets.append(chunk.data_page_offset + chunk.total_compressed_size - size)
    return np.asarray(offsets, dtype=np.int64)


def decode_group(parquet: pq.ParquetFile, group: int, row_len: int, *, where: str) -> np.ndarray:
    """The ids of one row group, decoded: (rows, row_len) int32, a view where the file holds int32.

    Raises:
        DataError: rows of another length, missing values, ids that do not fit, or damaged bytes.
        StorageError: the disk failed.
    """
    try:
        column = parquet.read_row_group(group, columns=[COLUMN], use_threads=False).column(0)
    except (pa.ArrowException, OSError) as error:
        _raise_if_of_the_disk(error, where)
        raise DataError(
            f"{where}: row group {group} cannot be decoded ({_first_line(error)}): the file is damaged"
        ) from None
    parts = [_decode_chunk(chunk, row_len, where=where, group=group) for chunk in column.chunks]
    if not parts:
        return np.empty((0, row_len), np.int32)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _decode_chunk(chunk: pa.Array, row_len: int, *, where: str, group: int) -> np.ndarray:
    values = chunk.flatten()
    if chunk.null_count or values.null_count:
        raise DataError(f"{where}: row group {group} has missing values in column {COLUMN}")
    if pa.types.is_fixed_size_list(chunk.type):
        lengths = np.full(len(chunk), chunk.type.list_size)
    else:
        lengths = np.diff(_numpy(chunk.offsets))
    wrong = np.flatnonzero(lengths != row_len)
    if wrong.size:
        raise DataError(
            f"{where}: row {int(wrong[0])} of row group {group} holds {int(lengths[wrong[0]])} ids, not {row_len}: "
            f"set data.seq_len={int(lengths[wrong[0]]) - 1} if that is what the corpus was made with"
        )
    ids = _numpy(values) if len(values) else np.empty(0, np.int32)
    if ids.dtype != np.int32:
        if ids.size and (int(ids.max()) >= 2**31 or int(ids.min()) < -(2**31)):
            raise DataError(f"{where}: row group {group} holds ids that do not fit 32 bits")
        ids = ids.astype(np.int32)
    return ids.reshape(-1, row_len)


def _raise_if_of_the_disk(error: Exception, where: str) -> None:
    """Tell a disk that fails from a file that is damaged: the first has a number of the system's."""
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, FileNotFoundError):
        raise StorageError.unreadable(where, error) from error


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]


def read_exactly(handle: int, target: memoryview, offset: int, *, where: str) -> None:
    """Fill `target` with the bytes of an open file from `offset` on.

    Raises:
        DataError: the file ends before.
        StorageError: the disk failed.
    """
    done = 0
    while done < len(target):
        try:
            got = _read_some(handle, target[done:], offset + done)
        except OSError as error:
            raise StorageError.unreadable(where, error) from error
        if got <= 0:
            raise DataError(f"{where}: ends before byte {offset + len(target)}: the file is cut short")
        done += got


def _read_some(handle: int, target: memoryview, offset: int) -> int:
    """Bytes read into `target`: straight into it where the system can (not on every macOS)."""
    if hasattr(os, "preadv"):
        return os.preadv(handle, [target], offset)
    content = os.pread(handle, min(len(target), 2**24), offset)
    target[: len(content)] = content
    return len(content)
