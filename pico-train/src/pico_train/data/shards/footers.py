"""Row counts of shards that came without a manifest: read from the Parquet footers, many at once, and remembered.

A footer is the last few kilobytes of a file, so ten thousand shards are indexed without reading any of their rows,
on this disk or on the Hub alike.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pico_schema.files import replace_file
from pico_train.data.shards.parquet import check_schema
from pico_train.data.shards.split_names import in_order
from pico_train.errors import DataError
from pico_train.json_file import read_json

TAIL = 2**16
"""Bytes read at first: most footers are smaller."""
MAX_FOOTER = 64 * 2**20

ReadRange = Callable[[int, int], bytes]
"""Bytes of a file from … to."""


@dataclass(frozen=True)
class Footer:
    """What the footer of one shard says."""

    n_rows: int
    """Its rows."""
    columns: str
    """Names and types of its columns."""
    sha256: str
    """Digest of the footer: it changes with the number, sizes and places of the column chunks."""


def read_footer(size: int, read: ReadRange, *, where: str) -> Footer:
    """The footer of a Parquet file of `size` bytes.

    Raises:
        DataError: not a whole Parquet file, or one without a column of lists of integers named `input_ids`.
    """
    damaged = f"{where}: not a whole Parquet file: it is cut short or damaged; fetch or write it again"
    tail = read(max(0, size - TAIL), size)
    if len(tail) < 12 or tail[-4:] != b"PAR1":
        raise DataError(damaged)
    length = int.from_bytes(tail[-8:-4], "little") + 8
    if length > min(size, MAX_FOOTER):
        raise DataError(damaged)
    if length > len(tail):
        tail = read(size - length, size)
    footer = tail[-length:]
    try:
        metadata = pq.read_metadata(io.BytesIO(b"PAR1" + footer))
        schema = metadata.schema.to_arrow_schema()
    except (pa.ArrowException, OSError, ValueError):
        raise DataError(damaged) from None
    check_schema(schema, where=where)
    columns = ", ".join(f"{field.name}: {field.type}" for field in schema.remove_metadata())
    return Footer(metadata.num_rows, columns, hashlib.sha256(footer).hexdigest())


def index(
    names: Sequence[str],
    key: str,
    read: Callable[[int], Footer],
    *,
    cache: Path,
    threads: int,
    progress: Callable[[str], None],
) -> list[Footer]:
    """The footers of all shards, from the cache if they were read before.

    Args:
        names: The shards.
        key: Changes when any of the files does.
        read: Reads the footer of one shard, by number; called from several threads.
        cache: Directory in which indexes are kept.
        threads: How many footers to read at once.
        progress: Called with a sentence now and then.

    Raises:
        DataError: a shard is damaged, or has other columns than the first.
    """
    path = cache / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
    footers = _remembered(path, len(names))
    if footers is None:
        footers = []
        with ThreadPoolExecutor(threads) as pool:
            for footer in pool.map(read, range(len(names))):
                footers.append(footer)
                if len(footers) % 1000 == 0:
                    progress(f"read the footers of {len(footers)} of {len(names)} shards")
        path.parent.mkdir(parents=True, exist_ok=True)
        content = [[footer.n_rows, footer.columns, footer.sha256] for footer in footers]
        replace_file(path, json.dumps(content).encode())
    for name, footer in zip(names, footers, strict=True):
        if footer.columns != footers[0].columns:
            raise DataError(
                f"{name}: has the columns ({footer.columns}), but {names[0]} has ({footers[0].columns}): shards of one "
                "corpus must agree; choose a folder with data.subset"
            )
    return footers


def list_shards(directory: Path) -> dict[str, os.stat_result]:
    """The Parquet files under a directory, by relative path with forward slashes, in the order of their numbers."""
    found: dict[str, os.stat_result] = {}
    folders = [("", str(directory))]
    while folders:
        prefix, folder = folders.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    folders.append((f"{prefix}{entry.name}/", entry.path))
                elif entry.name.endswith(".parquet"):
                    found[prefix + entry.name] = entry.stat()
    return {name: found[name] for name in in_order(list(found))}


def local_index(
    directory: Path, shards: Mapping[str, os.stat_result], cache: Path, progress: Callable[[str], None]
) -> list[Footer]:
    """The footers of shards in a directory, from the cache unless a file's size or time has changed.

    Raises:
        DataError: a shard is damaged, or has other columns than the first.
    """
    names = list(shards)
    if not names:
        return []

    def read(number: int) -> Footer:
        path = directory / names[number]
        with path.open("rb") as file:

            def part(begin: int, end: int) -> bytes:
                file.seek(begin)
                return file.read(end - begin)

            return read_footer(shards[names[number]].st_size, part, where=str(path))

    facts = [[name, stat.st_size, stat.st_mtime_ns] for name, stat in shards.items()]
    key = json.dumps([str(directory.absolute()), *facts])
    return index(names, key, read, cache=cache / "indexes", threads=8, progress=progress)


def _remembered(path: Path, count: int) -> list[Footer] | None:
    """An index kept in the cache, or None if there is none or it cannot be read (it is then made again)."""
    try:
        found = [Footer(int(n_rows), str(columns), str(digest)) for n_rows, columns, digest in read_json(path)]
    except (OSError, ValueError, TypeError):
        return None
    return found if len(found) == count else None
