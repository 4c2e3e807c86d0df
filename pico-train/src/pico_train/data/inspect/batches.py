"""The rows that a run sees: batch N, without training and without reading what comes before; its validation rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pico_schema import RunManifest, documents, layout
from pico_train.checkpoint import validation_rows
from pico_train.checkpoint.consumed import consumed_in
from pico_train.config import recorded
from pico_train.data.corpus import open_corpus
from pico_train.data.fingerprint import check_unchanged, pinned
from pico_train.data.order import batch_digest, cursor, row_ids
from pico_train.data.shards.shard_corpus import ShardCorpus
from pico_train.data.tokenizer import decode_rows
from pico_train.errors import UsageError

Progress = Callable[[str], None]


@dataclass(frozen=True)
class SeenRow:
    """One row of a batch."""

    row: int
    """Its place in the batch."""
    row_id: int
    """Its number in the corpus."""
    source: str
    """Where it is from."""
    text: str
    """Its text, decoded, special tokens included."""
    input_ids: np.ndarray
    """(T + 1,) int32."""


@dataclass(frozen=True)
class SeenBatch:
    """Batch N of a run."""

    run: str
    """Name of the run."""
    step: int
    """N: the update N → N + 1 consumes it."""
    epoch: int
    """Complete passes over the data before it."""
    n_rows: int
    """Rows of the batch."""
    sha256: str | None
    """Its digest; None where only some rows were read."""
    captured_sha256: str | None
    """The digest in the checkpoint of this step, if there is one."""
    rows: tuple[SeenRow, ...]
    """The rows asked for."""


def open_run_corpus(run: RunManifest, *, cache_dir: Path | None = None, progress: Progress) -> ShardCorpus:
    """The corpus of a run, checked to be the one it was begun with.

    Raises:
        DataError: it is not.
    """
    config = recorded.read(run.config, f"the run {run.name}")
    corpus = open_corpus(pinned(config.data, run.data), cache_dir=cache_dir, progress=progress)
    check_unchanged(run.data, corpus.fingerprint)
    return corpus


def batch_of_run(
    run_dir: Path,
    step: int,
    *,
    row: int | None = None,
    cache_dir: Path | None = None,
    progress: Progress = lambda _: None,
) -> SeenBatch:
    """Batch `step` of a run, or one row of it.

    Args:
        run_dir: Directory of the run.
        step: Step, from 0; it may lie beyond what was trained.
        row: Place in the batch of the only row wanted.
        cache_dir: Directory of the caches.
        progress: Called with a sentence now and then.

    Raises:
        UsageError: there is no such step or row.
        DataError: the corpus is not the one that the run was begun with.
    """
    run = documents.read_run(run_dir)
    config = recorded.read(run.config, f"the run {run.name}")
    if step < 0:
        raise UsageError(f"step {step} does not exist: steps begin at 0")
    consumed, batch_size = consumed_in(run, step)
    if row is not None and not 0 <= row < batch_size:
        raise UsageError(f"row {row} does not exist: a batch of this run has rows 0 to {batch_size - 1}")
    corpus = open_run_corpus(run, cache_dir=cache_dir, progress=progress)
    ids = row_ids(
        step,
        batch_size=batch_size,
        n_rows=corpus.n_rows,
        order=config.data.order,
        seed=config.sub_seed("data"),
        position=consumed.rows,
    )
    places = np.arange(batch_size) if row is None else np.array([row])
    rows = corpus.rows(ids[places])
    texts = decode_rows(corpus.tokenizer_dir, rows)
    sources = corpus.sources(ids[places])
    return SeenBatch(
        run=run.name,
        step=step,
        epoch=cursor(consumed.rows, n_rows=corpus.n_rows)[0],
        n_rows=batch_size,
        sha256=batch_digest(rows) if row is None else None,
        captured_sha256=_captured(run_dir, step),
        rows=tuple(
            SeenRow(int(place), int(ids[place]), source, text, each)
            for place, source, text, each in zip(places, sources, texts, rows, strict=True)
        ),
    )


def validation_of_run(run_dir: Path, *, row: int | None = None) -> tuple[RunManifest, tuple[SeenRow, ...]]:
    """The validation rows of a run as they are stored with it, or one of them.

    Raises:
        UsageError: there is no such row.
        CheckpointError: none are stored, or they are damaged.
    """
    run = documents.read_run(run_dir)
    stored = validation_rows.read(run_dir, run)
    if row is not None and not 0 <= row < len(stored.texts):
        raise UsageError(f"row {row} does not exist: the run has validation rows 0 to {len(stored.texts) - 1}")
    chosen = range(len(stored.texts)) if row is None else [row]
    rows = (SeenRow(i, i, stored.sources[i], stored.texts[i], stored.input_ids[i]) for i in chosen)
    return run, tuple(rows)


def _captured(run_dir: Path, step: int) -> str | None:
    directory = run_dir / layout.CHECKPOINTS / layout.step_dir(step)
    if not (directory / layout.MANIFEST).is_file():
        return None
    return documents.read_checkpoint(directory).batch_sha256
