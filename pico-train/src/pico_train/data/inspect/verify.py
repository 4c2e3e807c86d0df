"""Whether a corpus on disk is what it should be: hashes, row lengths, ids within the vocabulary, agreeing shards."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pico_schema.digests import sha256_file
from pico_train.data import tokenizer as tokenizers
from pico_train.data.shards import manifest as manifests
from pico_train.data.shards.manifest import CorpusManifest, ShardEntry
from pico_train.data.shards.parquet import check_schema, decode_group
from pico_train.data.shards.split_names import in_order
from pico_train.errors import DataError

Progress = Callable[[str], None]


@dataclass(frozen=True)
class CorpusProblem:
    """One thing that is wrong."""

    problem: str
    """missing, altered, truncated, unexpected, length, vocabulary, schema or manifest."""
    file: str
    """File, relative to the corpus."""
    detail: str
    """One sentence for people."""


@dataclass(frozen=True)
class CorpusReport:
    """What was looked at and what was found."""

    directory: Path
    """The corpus."""
    shards: int
    """Shards looked at."""
    rows: int
    """Rows looked at."""
    size: int
    """Bytes of the shards."""
    problems: tuple[CorpusProblem, ...]
    """What is wrong; empty for a sound corpus."""


def verify(
    directory: Path,
    *,
    seq_len: int | None = None,
    vocab_size: int | None = None,
    progress: Progress = lambda _: None,
) -> CorpusReport:
    """Read a corpus whole and report all that is wrong with it.

    Args:
        directory: What `prepare` made, or a directory of shards.
        seq_len: Row length to expect, less one, where no manifest says it; by default that of the first row.
        vocab_size: Ids must be smaller, where no manifest says it; by default that is not looked at.
        progress: Called with each shard's name.

    Raises:
        DataError: there are no shards at all, or the manifest itself cannot be read.
    """
    manifest = manifests.read(directory)
    if manifest is not None:
        return _prepared(directory, manifest, progress)
    names = in_order([path.relative_to(directory).as_posix() for path in directory.rglob("*.parquet")])
    if not names:
        unfinished = (directory / ".prepare").is_dir()
        hint = "a preparation that was not finished: run it again" if unfinished else "is it the right folder?"
        raise DataError(f"{directory}: holds neither {manifests.FILE} nor Parquet shards: {hint}")
    problems: list[CorpusProblem] = []
    rows = 0
    schema: str | None = None
    for name in names:
        progress(name)
        path = directory / name
        try:
            with pq.ParquetFile(path) as parquet:
                columns = ", ".join(f"{field.name}: {field.type}" for field in parquet.schema_arrow.remove_metadata())
                if schema is None:
                    schema = columns
                if columns != schema:
                    problems.append(CorpusProblem("schema", name, f"has ({columns}), but {names[0]} has ({schema})"))
                if seq_len is None:
                    check_schema(parquet.schema_arrow, where=name)
                    seq_len = len(next(parquet.iter_batches(1, columns=["input_ids"])).column(0)[0]) - 1
            for ids in _groups(path, seq_len + 1, name):
                rows += len(ids)
                problems += _beyond(ids, vocab_size, name)
        except (DataError, pa.ArrowException, OSError, StopIteration) as error:
            problems.append(_as_problem(error, name))
    return CorpusReport(
        directory, len(names), rows, sum((directory / name).stat().st_size for name in names), tuple(problems)
    )


def _prepared(directory: Path, manifest: CorpusManifest, progress: Progress) -> CorpusReport:
    problems: list[CorpusProblem] = []
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    for shard in shards:
        progress(shard.file)
        problems += _shard(directory, shard, manifest)
    for name, digest in manifest.tokenizer.files.items():
        path = directory / manifests.TOKENIZER_DIR / name
        label = f"{manifests.TOKENIZER_DIR}/{name}"
        if name not in tokenizers.FILES or not path.is_file():
            problems.append(CorpusProblem("missing", label, "is in the manifest, but not there"))
        elif sha256_file(path) != digest:
            problems.append(CorpusProblem("altered", label, "has another sha256 than in the manifest"))
    listed = {shard.file for shard in shards}
    for path in sorted(directory.rglob("*.parquet")):
        if path.relative_to(directory).as_posix() not in listed:
            problems.append(
                CorpusProblem("unexpected", path.relative_to(directory).as_posix(), "is not in the manifest")
            )
    train = manifest.splits["train"].shards if "train" in manifest.splits else ()
    if manifests.identity(manifest.seq_len, train) != manifest.sha256:
        problems.append(
            CorpusProblem("manifest", manifests.FILE, "its own digest of the rows does not match its list of shards")
        )
    for name, split in manifest.splits.items():
        if sum(shard.n_rows for shard in split.shards) != split.n_rows:
            problems.append(CorpusProblem("manifest", manifests.FILE, f"the rows of the {name} shards do not add up"))
    return CorpusReport(
        directory, len(shards), sum(s.n_rows for s in shards), sum(s.size for s in shards), tuple(problems)
    )


def _shard(directory: Path, shard: ShardEntry, manifest: CorpusManifest) -> list[CorpusProblem]:
    path = directory / shard.file
    if not path.is_file():
        return [CorpusProblem("missing", shard.file, "is in the manifest, but not there")]
    size = path.stat().st_size
    if size != shard.size:
        kind = "truncated" if size < shard.size else "altered"
        return [CorpusProblem(kind, shard.file, f"has {size} bytes, {shard.size} are in the manifest")]
    if sha256_file(path) != shard.sha256:
        return [CorpusProblem("altered", shard.file, "has another sha256 than in the manifest")]
    problems: list[CorpusProblem] = []
    state, n_rows = hashlib.sha256(), 0
    try:
        for ids in _groups(path, manifest.seq_len + 1, shard.file):
            state.update(ids.astype("<i4").tobytes())
            n_rows += len(ids)
            problems += _beyond(ids, manifest.tokenizer.vocab_size, shard.file)
    except (DataError, pa.ArrowException, OSError) as error:
        return [_as_problem(error, shard.file)]
    if n_rows != shard.n_rows or state.hexdigest() != shard.rows_sha256:
        problems.append(CorpusProblem("altered", shard.file, "its rows are not those in the manifest"))
    return problems


def _groups(path: Path, row_len: int, name: str) -> Iterator[np.ndarray]:
    """Ids of each row group, decoded by the Parquet library."""
    with pq.ParquetFile(path) as parquet:
        check_schema(parquet.schema_arrow, where=name)
        for group in range(parquet.num_row_groups):
            yield decode_group(parquet, group, row_len, where=name)


def _beyond(ids: np.ndarray, vocab_size: int | None, name: str) -> list[CorpusProblem]:
    if vocab_size is None or not ids.size or (int(ids.max()) < vocab_size and int(ids.min()) >= 0):
        return []
    row, place = np.argwhere((ids >= vocab_size) | (ids < 0))[0]
    detail = f"holds token id {int(ids[row, place])}, beyond the vocabulary of {vocab_size}"
    return [CorpusProblem("vocabulary", name, detail)]


def _as_problem(error: Exception, name: str) -> CorpusProblem:
    text = str(error).splitlines()[0] if str(error) else "has no rows"
    if isinstance(error, DataError):
        problem = "length" if " ids, not " in text else "schema" if "column" in text else "altered"
        return CorpusProblem(problem, name, text.removeprefix(f"{name}: "))
    return CorpusProblem("truncated", name, f"not a whole Parquet file ({text[:200]})")
