"""Rows that a run was trained on: the batches that its checkpoints keep, each with the step whose update used it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pico_analyze.models.rows import spaced
from pico_analyze.stores.base import HasBatches

if TYPE_CHECKING:
    from pico_analyze.stores.base import Store

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


def trained_rows(store: Store) -> TrainedRows | None:
    """The rows of all batches that the checkpoints of a run keep; None where they keep none, or of several lengths.

    Raises:
        DataError: a batch is damaged.
        StorageError: disk or network.
    """
    if not isinstance(store, HasBatches):
        return None
    found, steps = [], []
    for info in store.steps():
        rows = store.batch_rows(info.step)
        if rows is not None:
            found.append(rows.ids_NT)
            steps += [info.step] * len(rows.ids_NT)
    if not found or len({one.shape[1] for one in found}) > 1:
        return None
    ids = np.concatenate(found)
    return TrainedRows(ids, np.asarray(steps), np.asarray(spaced(MOST, len(ids))))
