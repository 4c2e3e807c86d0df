"""Documents of tokens that are stored as such: rows of Parquet shards, of any length, with the sources they name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pico_train.data.shards.parquet import COLUMN, check_schema
from pico_train.errors import DataError

MOST_TOKENS = 2**28
"""Tokens of a set that are read, at most: a gigabyte."""
_SOURCES = ("source", "domain", "subset")
"""Columns that say where a row is from; the first that is there counts."""


def read_rows(files: Sequence[tuple[Path, str]], vocab_size: int) -> tuple[list[np.ndarray], list[str]]:
    """The rows of shards in order, and the source of each: its column's, else the shard's folder.

    Args:
        files: Each shard, and its path in the set.
        vocab_size: Ids are smaller than this.

    Raises:
        DataError: a shard is damaged or holds no token ids, an id is beyond the vocabulary, or there are too many.
    """
    rows: list[np.ndarray] = []
    sources: list[str] = []
    seen = 0
    for path, name in files:
        folder = name.rpartition("/")[0]
        try:
            with pq.ParquetFile(path) as file:
                check_schema(file.schema_arrow, where=str(path))
                column = next((each for each in _SOURCES if each in file.schema_arrow.names), None)
                for batch in file.iter_batches(256, columns=[COLUMN, *([column] if column else [])]):
                    ids = batch.column(0)
                    flat = np.asarray(ids.flatten(), np.int64)
                    seen += len(flat)
                    if seen > MOST_TOKENS:
                        raise DataError(f"{name}: the set has more than {MOST_TOKENS:,} tokens: take a part of it")
                    if len(flat) and not 0 <= flat.min() <= flat.max() < vocab_size:
                        raise DataError(
                            f"{name}: holds token ids beyond the vocabulary of {vocab_size}: another tokenizer made it"
                        )
                    ends = np.cumsum(ids.value_lengths().fill_null(0).to_numpy(zero_copy_only=False))
                    rows += [part.astype(np.int32) for part in np.split(flat, ends[:-1])]
                    given = batch.column(1).to_pylist() if column else [folder] * len(ids)
                    sources += [str(value or "") for value in given]
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path}: cannot be read as Parquet ({str(error)[:200]})") from None
    return rows, sources
