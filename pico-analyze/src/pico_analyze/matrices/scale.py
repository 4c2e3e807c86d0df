"""Whether entries are so large or so small that what a metric makes of them leaves the range of numbers.

Squares of 1e160 are infinite and those of 1e-170 are zero: a metric that adds up squares would give a wrong number, not
an error. Which power of the entries it forms, a metric says (`MetricSpec.power`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from pico_analyze.matrices.factored import Concatenated, Factored
from pico_analyze.matrices.matrix import Dense, Matrix

_HIGHEST, _LOWEST = 300.0, -300.0
"""Decimal exponents within which sums of products are to stay."""


def out_of_range(matrix: Matrix, power: int) -> str | None:
    """Why sums of this power of the entries of a finite matrix cannot be formed, or None."""
    for largest, count in matrix.memo("sizes of entries", lambda: list(_sizes(matrix))):
        if largest == 0.0:
            continue
        exponent = power * math.log10(largest)
        if exponent + math.log10(count) > _HIGHEST or exponent < _LOWEST:
            many = "large" if exponent > 0 else "small"
            return f"its entries are of the order {largest:.0e}, too {many} to be multiplied: scale them"
    return None


def _sizes(matrix: Matrix) -> Iterator[tuple[float, int]]:
    """Largest magnitude and number of entries of each array that a matrix is made of, and of their products."""
    if isinstance(matrix, Dense):
        yield _largest(matrix.array), matrix.size
    for part in matrix.parts if isinstance(matrix, Concatenated) else (matrix,):
        if isinstance(part, Factored):
            left, right = _largest(part.left.array), _largest(part.right.array)
            yield left, part.left.array.size
            yield right, part.right.array.size
            yield left * right, matrix.size * part.left.shape[1]


def _largest(array: np.ndarray) -> float:
    return float(max(array.max(), -array.min())) if array.size else 0.0
