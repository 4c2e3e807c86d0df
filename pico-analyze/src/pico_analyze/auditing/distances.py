"""How far the sampled weights of a run's steps are from each other: in float64, from rows that were read of each.

Every slice counts the same, whatever its scale: it is divided by its root mean square over all steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pico_analyze.auditing.evidence import Evidence
    from pico_analyze.auditing.sampling import Slice

_ROUNDING = {"BF16": 2.0**-7, "F16": 2.0**-10, "F32": 2.0**-23, "F64": 2.0**-52}
"""Spacing of numbers of a type, relative to them."""


@dataclass(frozen=True)
class Distances:
    """Distances and cosines between the same slices of several steps."""

    steps: tuple[int, ...]
    """Those steps of which all the slices are known and finite, ascending."""
    d: np.ndarray
    """Euclidean distance over root mean square norm, (step, step)."""
    cos: np.ndarray
    """Cosine, (slice, step, step)."""
    norms: np.ndarray
    """Norm of each slice over its root mean square over the steps, (slice, step)."""
    entries: tuple[int, ...]
    """Entries of each slice."""
    floor: float
    """Distance below which the types that the weights are stored in tell nothing."""

    def index(self, step: int) -> int | None:
        """Place of a step; None if it is not among them."""
        return self.steps.index(step) if step in self.steps else None


def distances(evidence: Sequence[Evidence], group: str | None = None) -> Distances | None:
    """Distances between the steps, by the slices of one file of weights, or of all; None where there are none.

    Args:
        evidence: Of each step, ascending.
        group: The file, as the plan names it; None for all.
    """
    parts = _parts(evidence, group)
    usable = [one for one in evidence if parts and all(_finite(one, part) for part in parts)]
    if len(usable) < 2:
        return None
    d2, cosines, norms = np.zeros((len(usable), len(usable))), [], []
    for part in parts:
        rows = np.stack([one.slices[part].ravel() for one in usable]).astype(np.float64)
        scale = np.sqrt(np.mean(np.sum(rows**2, axis=1))) or 1.0
        rows /= scale
        gram = rows @ rows.T
        squares = np.diag(gram).copy()
        middle = rows.mean(axis=0)  # a distance is a difference of squares: those of what is left are small
        rows -= middle
        near = rows @ rows.T
        own = np.diag(near)
        d2 += np.maximum(own[:, None] + own[None, :] - 2 * near, 0)
        size = np.sqrt(squares)
        cosines.append(gram / np.maximum(np.outer(size, size), 1e-300))
        norms.append(size)
    rounding = max((_ROUNDING[dtype] for one in usable for dtype in one.dtypes), default=_ROUNDING["F32"])
    entries = tuple(usable[0].slices[part].size for part in parts)
    d = np.sqrt(d2 / len(parts))
    np.fill_diagonal(d, 0.0)
    return Distances(
        tuple(one.step for one in usable), d, np.array(cosines), np.array(norms), entries, max(rounding / 2, 1e-6)
    )


def groups_of(evidence: Iterable[Evidence]) -> list[str]:
    """The files of weights of which there are slices, as the plan names them."""
    return sorted({part.group for one in evidence for part in one.slices})


def _parts(evidence: Sequence[Evidence], group: str | None) -> list[Slice]:
    """The slices that most steps have, of one size, and that are not zero in all of them."""
    counts: dict[Slice, int] = {}
    for one in evidence:
        for part, rows in one.slices.items():
            if group in (None, part.group) and rows.any():
                counts[part] = counts.get(part, 0) + 1
    return [part for part, n in counts.items() if 2 * n > len(evidence)]


def _finite(one: Evidence, part: Slice) -> bool:
    rows = one.slices.get(part)
    return rows is not None and bool(np.isfinite(rows).all())
