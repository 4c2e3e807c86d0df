"""How many different samples there are: a row that is there twice tells nothing new.

What a layer computes from the token alone, such as the values of the first one, is the same at every place of that
token. Whatever asks for "enough samples" has to count what differs, not rows.

Shapes: N rows, R columns of a sample form.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from pico_analyze.matrices.matrix import Matrix

_ROUNDING = 16.0
"""Two rows are the same up to so many units of rounding of their largest entries: the same sample, computed at two
places of a batch, may differ in its last bits."""


def n_distinct_samples(*matrices: Matrix) -> int:
    """Different rows of matrices of the same N samples, side by side; finite, N at least 1."""
    return len(np.unique(np.stack([sample_numbers(matrix) for matrix in matrices]), axis=1).T)


def sample_numbers(matrix: Matrix) -> np.ndarray:
    """(N,): equal numbers for equal rows."""
    return matrix.memo("sample_numbers", partial(_numbers, matrix))


def _numbers(matrix: Matrix) -> np.ndarray:
    """The same, computed: rows of equal factors are equal."""
    rows, _ = matrix.sample_form()
    unit = _ROUNDING * float(np.finfo(matrix.dtype).eps)
    # Equal rows have equal sums, whatever the weights are, so they are neighbours once sorted by one.
    weights = np.random.default_rng(0).standard_normal(rows.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):  # entries near the largest that there are: all rows differ
        sums = rows @ weights
        order = np.argsort(sums, kind="stable")
        largest = max(float(rows.max()), -float(rows.min()))
        near = np.flatnonzero(np.diff(sums[order]) <= unit * largest * float(np.abs(weights).sum()))
    differs = np.ones(len(rows), dtype=bool)
    for place in near:
        first, second = rows[order[place]], rows[order[place + 1]]
        differs[place + 1] = np.abs(first - second).max() > unit * max(np.abs(first).max(), np.abs(second).max())
    numbers = np.empty(len(rows), dtype=np.int64)
    numbers[order] = np.cumsum(differs)
    return numbers
