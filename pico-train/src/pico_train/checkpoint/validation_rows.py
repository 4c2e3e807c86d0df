"""The validation rows of a run, stored once at its root: what every `val` capture was taken on, as ids and as text."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pico_schema import RunManifest, ValidationRows, layout
from pico_schema.digests import sha256_file
from pico_schema.files import replace_file
from pico_train.checkpoint.contents import token_rows_table
from pico_train.errors import CheckpointError


@dataclass(frozen=True)
class StoredRows:
    """Validation rows as they are stored."""

    input_ids: np.ndarray
    """(n_rows, seq_len + 1) int32."""
    texts: list[str]
    """Each row as text; empty where the data came without a tokenizer."""
    sources: list[str]
    """Where each row is from."""


def write(run_dir: Path, rows: StoredRows) -> ValidationRows:
    """Store validation rows, replacing what was stored before.

    Returns:
        What `run.json` says of the file.

    Raises:
        OSError: the disk refused.
    """
    numbers = np.arange(len(rows.input_ids))
    table = token_rows_table("row", numbers, rows.input_ids, rows.texts, rows.sources)
    buffer = io.BytesIO()
    pq.write_table(table.select(list(layout.VALIDATION_COLUMNS)), buffer, compression="zstd")
    path = run_dir / layout.VALIDATION_ROWS
    replace_file(path, buffer.getbuffer())
    return ValidationRows(size=path.stat().st_size, sha256=sha256_file(path), n_rows=len(rows.input_ids))


def damage(run_dir: Path, run: RunManifest) -> str | None:
    """What is wrong with the stored rows, as one sentence; None if they are what `run.json` lists, or it lists none."""
    path, listed = run_dir / layout.VALIDATION_ROWS, run.validation
    if listed is None:
        return None
    if not path.is_file():
        return f"{layout.VALIDATION_ROWS} is missing: resume the run to store it again"
    if path.stat().st_size != listed.size or sha256_file(path) != listed.sha256:
        return f"{layout.VALIDATION_ROWS} is not the file that {layout.RUN_MANIFEST} lists: resume the run to store it"
    return None


def read(run_dir: Path, run: RunManifest) -> StoredRows:
    """The stored rows, checked against their digest.

    Raises:
        CheckpointError: none are stored, or they are damaged; the message says what to do.
    """
    if run.validation is None:
        raise CheckpointError(
            f"{run_dir} was begun before validation rows were stored with a run: resume it once to store them"
        )
    wrong = damage(run_dir, run)
    if wrong is not None:
        raise CheckpointError(f"{run_dir}: {wrong}")
    try:
        table = pq.read_table(run_dir / layout.VALIDATION_ROWS, columns=list(layout.VALIDATION_COLUMNS))
        ids = np.array(table["input_ids"].to_pylist(), np.int32).reshape(table.num_rows, -1)
    except (pa.ArrowException, ValueError) as error:
        raise CheckpointError(f"{run_dir / layout.VALIDATION_ROWS}: cannot be read ({error})") from None
    return StoredRows(ids, _texts(table["text"]), _texts(table["source"]))


def _texts(column: pa.ChunkedArray) -> list[str]:
    return [value or "" for value in column.to_pylist()]
