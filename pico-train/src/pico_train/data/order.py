"""Which rows batch N holds: a pure function of the number of rows, the order, the seed and N.

Rows are laid end to end, epoch after epoch; batch N takes positions N·B … N·B + B-1 of that endless line (where B was
changed on the way, it begins where batch N - 1 ended: `position`). So a batch may straddle two epochs, no row is ever
dropped, and nothing else (model, devices, micro-batches, workers, resumes) can change what a step sees.

Letters: B rows of a global batch, T tokens per row that are predicted (a row holds T + 1).
"""

from __future__ import annotations

import hashlib
from typing import Literal

import numpy as np

from pico_train.data.permutation import permute

Order = Literal["sequential", "shuffled"]


def row_ids(
    step: int, *, batch_size: int, n_rows: int, order: Order, seed: int, position: int | None = None
) -> np.ndarray:
    """The rows of batch `step`, in order.

    Args:
        step: Update that consumes the batch, from 0.
        batch_size: B, rows of the global batch.
        n_rows: Rows of one epoch.
        order: "sequential": as stored. "shuffled": a permutation keyed by (seed, epoch).
        seed: Seed of the order; "sequential" ignores it.
        position: Where on the line of rows the batch begins; by default at step × batch_size.

    Returns:
        (B,) int64 in 0 … n_rows-1.

    Raises:
        ValueError: a negative step, an empty corpus or batch, or an unknown order.
    """
    first = step * batch_size if position is None else position
    if step < 0 or first < 0 or batch_size < 1 or n_rows < 1:
        raise ValueError(f"no batch {step} of {batch_size} rows out of {n_rows}")
    if order not in ("sequential", "shuffled"):
        raise ValueError(f"order {order!r} is neither sequential nor shuffled")
    first_epoch, first_row = divmod(first, n_rows)
    positions = first_row + np.arange(batch_size, dtype=np.int64)
    rows = positions % n_rows
    if order == "sequential":
        return rows
    epochs = positions // n_rows
    for later in set(epochs.tolist()):
        here = epochs == later
        rows[here] = permute(rows[here], n_rows, f"pico rows, seed {seed}, epoch {first_epoch + later}")
    return rows


def cursor(position: int, *, n_rows: int) -> tuple[int, int]:
    """A place on the endless line of rows as complete epochs, and rows of the current one already consumed."""
    return divmod(position, n_rows)


def rank_slice(batch_size: int, rank: int, world_size: int) -> slice:
    """Rows of the global batch that one process takes: contiguous, in rank order, so that together they are the batch.

    Raises:
        ValueError: the batch cannot be divided evenly, or there is no such rank.
    """
    if not 0 <= rank < world_size:
        raise ValueError(f"rank {rank} does not exist among {world_size} processes")
    if batch_size % world_size:
        raise ValueError(f"a batch of {batch_size} rows cannot be shared evenly by {world_size} processes")
    share = batch_size // world_size
    return slice(rank * share, (rank + 1) * share)


def batch_digest(rows: np.ndarray) -> str:
    """Digest of a batch: sha256, in hexadecimal, of its shape and its token ids.

    Args:
        rows: (B, T + 1) integers: the global batch, in order.

    Returns:
        64 hexadecimal digits over "B,T+1;" in ASCII and then the ids as little-endian int32, row by row.
    """
    ids = np.ascontiguousarray(rows, dtype="<i4")
    digest = hashlib.sha256(f"{','.join(map(str, ids.shape))};".encode())
    digest.update(ids.data if ids.size else b"")
    return digest.hexdigest()
