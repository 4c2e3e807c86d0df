"""How large singular values of rounding are, and the numerical rank that follows: one rule for every metric.

A number that is stored is off by up to u times its size, u the unit roundoff of the type (2⁻⁸ of bfloat16, 2⁻²⁴ of
float32). These errors are nearly independent, so they form a random matrix E, whose largest singular value is about the
largest standard deviation of a row plus that of a column (Bandeira and van Handel 2016, Sharp nonasymptotic bounds on
the norm of random matrices with independent entries, Annals of Probability 44, theorem 1.1). With uniform errors the
standard deviation of an entry is at most u·|x|/√3, so

    ‖E‖ ≈ u/√3 · (largest norm of a row + largest norm of a column),

which for entries of one size is u/√3·rms·(√N + √P): far below max(N, P)·eps·s₁, which of bfloat16 exceeds s₁ itself.
Where rows are there several times, their errors are there as often. Singular values are rounding up to

    (`MARGIN` + √max(N, P)·min(1, 2⁻²⁴/u)) · ‖E‖,

the second term because entries are themselves sums that a model computed in float32 at best, whose errors grow as the
square root of their number of terms (Higham and Mary 2019, A New Approach to Probabilistic Rounding Error Analysis,
SIAM J. Sci. Comput. 41, theorem 2.4). Those up to max(N, P)·eps·s₁ with eps of float64, in which singular values are
computed, are rounding too (Golub and Van Loan 2013, Matrix Computations, 4th ed., section 5.4.1).

Shapes: N rows, P columns, R rank of a product.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pico_analyze.stored import Precision

MARGIN = 1.5
"""How many times the expected largest singular value of the stored type's rounding still is rounding. Of captured
activations in bfloat16 it was 0.4 to 0.6 times the expected one."""
_COMPUTED = 2.0**-24
"""Unit roundoff of float32, in which models compute at best."""
_PIECE_ELEMENTS = 2**22

Rounding = Callable[[], float]
"""Gives the expected largest singular value of what storing did to a matrix."""


class Once:
    """A number that is computed when it is first asked for. Centred matrices share it with what they were made of."""

    def __init__(self, compute: Rounding):
        self._compute: Rounding | None = compute
        self._value = 0.0

    def __call__(self) -> float:
        """The number."""
        if self._compute is not None:
            self._value, self._compute = self._compute(), None
        return self._value


@dataclass(frozen=True)
class NumericalRank:
    """How many singular values are more than rounding, and what decided it."""

    rank: int
    tolerance: float
    """Singular values up to this are rounding."""
    stored: str
    """Type the data was stored in; of a product the coarsest of its factors'."""

    def facts(self, suffix: str = "") -> dict[str, float | str]:
        """The same for `Result.extra`, under these names with a suffix."""
        return {
            f"rank{suffix}": float(self.rank),
            f"tolerance{suffix}": self.tolerance,
            f"stored{suffix}": self.stored,
        }


def numerical_rank(values: np.ndarray, shape: tuple[int, int], rounding: float, stored: Precision) -> NumericalRank:
    """The rank of a matrix with these singular values.

    Args:
        values: Singular values, descending.
        shape: (N, P).
        rounding: Expected largest singular value of the rounding of what is stored.
        stored: The type it was stored in.
    """
    largest = float(values[0]) if len(values) else 0.0
    computed = math.sqrt(max(shape)) * min(1.0, _COMPUTED / stored.unit)
    tolerance = max(max(shape) * float(np.finfo(np.float64).eps) * largest, (MARGIN + computed) * rounding)
    return NumericalRank(int(np.count_nonzero(values > tolerance)), tolerance, stored.name)


def of_array(array: np.ndarray, stored: Precision, *, samples: bool = False) -> float:
    """Expected largest singular value of the rounding of an array.

    Args:
        array: (N, P), finite, not empty.
        stored: The type it was stored in.
        samples: Whether rows may be there several times, with the same errors.
    """
    n_rows, n_cols = array.shape
    size = float(np.abs(array).max(initial=0.0))
    if not 0.0 < size < math.inf:
        return 0.0
    columns, longest = np.zeros(n_cols), 0.0
    counts = _multiplicities(array) if samples else None
    step = max(1, _PIECE_ELEMENTS // n_cols)
    for start in range(0, n_rows, step):
        squares = _squares(array[start : start + step], size)
        columns += squares.sum(axis=0)
        rows = squares.sum(axis=1)
        longest = max(longest, float((rows if counts is None else rows * counts[start : start + step]).max()))
    return _norm(stored, size, longest, float(columns.max()), math.sqrt(n_rows) + math.sqrt(n_cols))


def of_product(left: np.ndarray, left_stored: Precision, right: np.ndarray, right_stored: Precision) -> float:
    """The same of a product of two stored matrices, left (N, R) and right (R, P): ‖E‖·‖right‖ + ‖left‖·‖E′‖."""
    return of_array(left, left_stored) * spectral_norm(right) + spectral_norm(left) * of_array(right, right_stored)


class StoredFactor:
    """A thin array (N, R) as it was stored: how large its rounding is once its columns are multiplied by some scale.

    Nothing is computed before it is asked for, and what several scales need once.
    """

    def __init__(self, array: np.ndarray, stored: Precision) -> None:
        self._array, self._stored = array, stored
        self._found: tuple[float, np.ndarray, np.ndarray] | None = None
        self._counts: np.ndarray | None = None

    def _squares(self) -> tuple[float, np.ndarray, np.ndarray]:
        """The largest entry, the squares of all over its own (N, R), and their sums by column (R,)."""
        if self._found is None:
            size = float(np.abs(self._array).max(initial=0.0))
            of_each = _squares(self._array, size) if 0.0 < size < math.inf else np.zeros(self._array.shape)
            self._found = size, of_each, of_each.sum(axis=0)
        return self._found

    def rounding(self, scale: np.ndarray, *, samples: bool) -> float:
        """Expected largest singular value of it, for a scale (R,); `samples`: rows may be there several times."""
        size, of_each, of_columns = self._squares()
        rows = of_each @ np.square(scale)
        if samples:
            if self._counts is None:
                self._counts = _multiplicities(self._array)
            rows *= self._counts
        widest = float((of_columns * np.square(scale)).max())
        spread = math.sqrt(len(rows)) * float(scale.max()) + float(np.linalg.norm(scale))
        return _norm(self._stored, size, float(rows.max()), widest, spread) if widest > 0.0 else 0.0


def of_factors(
    left: StoredFactor, right: StoredFactor, grams: tuple[np.ndarray, np.ndarray], *, samples: bool = False
) -> float:
    """The same of left · rightᵀ that is kept as its factors.

    Args:
        left: (N, R), not centred.
        right: (P, R).
        grams: Inner products (R, R) of the columns of each, as they are multiplied (centred or not).
        samples: Whether rows of the left one may be there several times.
    """
    lengths = [np.sqrt(np.diag(gram)) for gram in grams]
    if not all(length.any() for length in lengths):
        return 0.0
    # A column may be divided by what its counterpart is multiplied by: so that both are equally long, as the bound is
    # then the least where columns are of different sizes (weights beside gradients).
    positive = (lengths[0] > 0) & (lengths[1] > 0)
    scale = np.ones(len(positive))
    scale[positive] = np.sqrt(lengths[1][positive] / lengths[0][positive])
    norms = [
        math.sqrt(max(0.0, float(np.linalg.eigvalsh(gram * np.outer(by, by))[-1])))
        for gram, by in zip(grams, (scale, 1.0 / scale), strict=True)
    ]
    errors = left.rounding(scale, samples=samples), right.rounding(1.0 / scale, samples=False)
    return errors[0] * norms[1] + norms[0] * errors[1]


def spectral_norm(array: np.ndarray) -> float:
    """Largest singular value, from the Gram matrix of the shorter side: half of the digits are enough."""
    wide = np.asarray(array, np.float64)
    gram = wide @ wide.T if wide.shape[0] <= wide.shape[1] else wide.T @ wide
    return math.sqrt(max(0.0, float(np.linalg.eigvalsh(gram)[-1])))


def _squares(array: np.ndarray, size: float) -> np.ndarray:
    """Over the largest entry, so that squares of entries of any size are numbers."""
    return np.square(np.asarray(array, np.float64) / size)


def _norm(stored: Precision, size: float, longest: float, widest: float, spread: float) -> float:
    """‖E‖ from the largest squares of rows and columns over the square of the largest entry; where numbers lose digits
    because they are small, errors of equal size at each place add `spread` times that size."""
    relative = stored.unit * size * (math.sqrt(longest) + math.sqrt(widest))
    return (relative + stored.smallest * spread) / math.sqrt(3.0)


def _multiplicities(array: np.ndarray) -> np.ndarray:
    """(N,): how often each row is there, bit by bit."""
    rows = np.ascontiguousarray(array)
    whole = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1])))[:, 0]
    _, number, counts = np.unique(whole, return_inverse=True, return_counts=True)
    return np.asarray(counts[number.reshape(-1)], np.float64)
