"""From the spool to shards: the global shuffle, shard files of equal size, and their digests."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from pico_schema.digests import sha256_file
from pico_schema.files import replacement
from pico_train.data.permutation import permute
from pico_train.data.prepare.spool import Stretch
from pico_train.data.shards.manifest import ShardEntry
from pico_train.data.shards.parquet import rows_per_group, write_shard

MAX_SOURCES = 10_000


def shard_name(split: str, index: int, n_shards: int) -> str:
    """Path of a shard, relative to the corpus: as the `datasets` library and the Hub's viewer recognise splits."""
    return f"data/{split}-{index:05d}-of-{n_shards:05d}.parquet"


def write_shards(
    spool: Stretch,
    directory: Path,
    split: str,
    *,
    n_rows: int,
    rows_per_shard: int,
    seed: int | None,
    compression: str,
    block_bytes: int,
    done: list[ShardEntry],
    on_shard: Callable[[ShardEntry], None],
) -> tuple[ShardEntry, ...]:
    """Write the shards of one split that are not yet `done`.

    Args:
        spool: Rows in reading order.
        directory: The corpus.
        split: train or val.
        n_rows: SpooledRows to take: the first of the shuffled order.
        rows_per_shard: Rows of each shard but the last.
        seed: Seed of the shuffle; None keeps reading order.
        compression: Of the shards.
        block_bytes: Rows held at once, in bytes: more of them are read closer together.
        done: Shards that an interrupted preparation finished.
        on_shard: Called after each shard is durable.

    Raises:
        OSError: the disk is full or fails; what was finished stays.
    """
    n_shards = max(1, -(-n_rows // rows_per_shard))
    folder = directory / "data"
    folder.mkdir(exist_ok=True)
    for left_behind in folder.glob(".*.tmp"):  # by a preparation that was killed
        left_behind.unlink()
    entries = list(done)
    for index in range(len(done), n_shards):
        rows = range(index * rows_per_shard, min((index + 1) * rows_per_shard, n_rows))
        name = shard_name(split, index, n_shards)
        block = max(1, block_bytes // (4 * spool.row_len))
        entry = _write(spool, directory, name, rows, split=split, seed=seed, compression=compression, block=block)
        on_shard(entry)
        entries.append(entry)
    return tuple(entries)


def _write(
    spool: Stretch,
    directory: Path,
    name: str,
    rows: range,
    *,
    split: str,
    seed: int | None,
    compression: str,
    block: int,
) -> ShardEntry:
    path = directory / name
    content = hashlib.sha256()
    group = rows_per_group(spool.row_len)
    held = max(group, block - block % group)

    def groups() -> Iterator[tuple[np.ndarray, list[str]]]:
        for first in range(rows.start, rows.stop, held):
            wanted = np.arange(first, min(first + held, rows.stop), dtype=np.int64)
            if seed is not None:
                wanted = permute(wanted, spool.n_rows, f"pico shuffle, seed {seed}, {split}")
            ids, sources = spool.read(wanted)
            content.update(ids.astype("<i4", copy=False).data)
            for begin in range(0, len(ids), group):
                yield ids[begin : begin + group], sources[begin : begin + group]

    with replacement(path) as temporary:
        with temporary.open("wb") as file:
            write_shard(file, groups(), row_len=spool.row_len, compression=compression)
        digest, size = sha256_file(temporary), temporary.stat().st_size
    return ShardEntry(file=name, n_rows=len(rows), size=size, sha256=digest, rows_sha256=content.hexdigest())


def count_sources(spool: Stretch, n_rows: int, *, split: str, seed: int | None) -> dict[str, int] | None:
    """Rows by source among the first `n_rows` of the shuffled order, or None if more than 10,000 sources differ."""
    counts: Counter[str] = Counter()
    for first in range(0, n_rows, 2**16):
        wanted = np.arange(first, min(first + 2**16, n_rows), dtype=np.int64)
        if seed is not None and n_rows < spool.n_rows:
            wanted = permute(wanted, spool.n_rows, f"pico shuffle, seed {seed}, {split}")
        counts.update(spool.read_sources(wanted))
        if len(counts) > MAX_SOURCES:
            return None
    return dict(sorted(counts.items()))
