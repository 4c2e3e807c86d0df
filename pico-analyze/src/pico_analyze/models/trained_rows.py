"""Rows that a run was trained on: the batches that its checkpoints keep, each with the step whose update used it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from pico_analyze.models.rows import spaced
from pico_analyze.models.sealing import TEMPORARY
from pico_analyze.stores.samples import read_token_rows, read_whole
from pico_schema import layout

if TYPE_CHECKING:
    from pico_analyze.models.sources import ModelRun

MOST = 32
"""Rows of training that models are run on."""


@dataclass(frozen=True)
class TrainedRows:
    """Rows of the batches of a run."""

    ids_NT: np.ndarray
    """All rows that are kept, (N, T + 1), for counting."""
    batch_N: np.ndarray
    """Of each row the step whose batch it is from: from the next step on, the model was trained on it."""
    run_on: np.ndarray
    """Numbers of the rows that models are run on, evenly spaced."""

    @property
    def digest(self) -> str:
        """What stands for the rows and their steps."""
        content = self.ids_NT.astype("<i4").tobytes() + self.batch_N.astype("<i8").tobytes()
        return hashlib.sha256(content).hexdigest()[:12]


def trained_rows(source: ModelRun, room: Path) -> TrainedRows | None:
    """The rows of all batches that the checkpoints of a run keep; None where they keep none.

    Args:
        source: The run.
        room: Directory in which files of the Hub lie meanwhile.

    Raises:
        DataError: a batch is damaged.
    """
    found, steps = [], []
    for info in source.store.steps():
        manifest = source.manifest(info.step)
        if manifest is None or layout.TRAIN_BATCH not in manifest.files:
            continue
        with TemporaryDirectory(prefix=TEMPORARY, dir=room) as directory:
            source.files(info.step).place(layout.TRAIN_BATCH, target := Path(directory, "batch.parquet"))
            content = read_whole(target)
        rows = read_token_rows(content, where=f"{source.store.run} step {info.step}: {layout.TRAIN_BATCH}")
        found.append(rows.ids_NT)
        steps += [info.step] * len(rows.ids_NT)
    if not found or len({one.shape[1] for one in found}) > 1:
        return None
    ids = np.concatenate(found)
    return TrainedRows(ids, np.asarray(steps), np.asarray(spaced(MOST, len(ids))))
