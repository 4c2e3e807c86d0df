"""Matrices that metrics measure: what each can be asked, and the dense one (`factored.py` has the others).

A matrix computes what several metrics need (singular values, centring) once and keeps it. Decompositions are
float64 whatever the input; elementwise blocks keep the dtype of the data. Which singular values are rounding follows
from the type the data was stored in (`rounding.py`).

Shapes: N rows, P columns, R rank of a factored form.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from pico_analyze.counting import counted
from pico_analyze.errors import DataError, UsageError, nearest
from pico_analyze.matrices.decompositions import singular_values, thin_svd, triangular_root
from pico_analyze.matrices.lazy import lazy
from pico_analyze.matrices.rounding import NumericalRank, Once, Rounding, numerical_rank, of_array
from pico_analyze.stored import PRECISIONS, coarsest, marked, stored_type

T = TypeVar("T")

_PIECE_ELEMENTS = 2**22
"""Elements of one piece of a matrix: 32 MiB in float64."""
_HIGHEST, _LOWEST = 300.0, -300.0
"""Decimal exponents within which sums of products are to stay."""


class Matrix(ABC):
    """An (N, P) matrix, however it is stored. Immutable: what is computed from it is kept.

    `samples` says that rows are samples (activations) rather than units: metrics that centre do so over
    samples, and only such matrices can be resampled.
    """

    samples: bool

    def __init__(self) -> None:
        self._memo: dict[Hashable, Any] = {}

    def memo(self, key: Hashable, compute: Callable[[], T]) -> T:
        """`compute()` once, its result afterwards. For results that take little memory or much time."""
        if key not in self._memo:
            self._memo[key] = compute()
        value: T = self._memo[key]
        return value

    def remembered(self, key: Hashable) -> Any | None:
        """What `memo` kept under this key, or None."""
        return self._memo.get(key)

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """(N, P)."""

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """dtype of the data and of `blocks`."""

    @property
    @abstractmethod
    def stored(self) -> str:
        """The type the data was stored in: float32, bfloat16, …; of a product the coarsest of its factors'. That of a
        centred matrix is that of what was centred."""

    @property
    @abstractmethod
    def rounding(self) -> float:
        """Expected largest singular value of what rounding to that type did."""

    @property
    @abstractmethod
    def rank_bound(self) -> int:
        """No larger rank is possible, by shape and by factors."""

    @property
    @abstractmethod
    def feature_dim(self) -> int:
        """How many dimensions the columns can span: P, or the rank of the factors where that is less."""

    @property
    @abstractmethod
    def _n_bad(self) -> int: ...

    @abstractmethod
    def blocks(self) -> Iterator[np.ndarray]:
        """Dense blocks of columns, left to right, each (N, ≤P), in the data's dtype."""

    @abstractmethod
    def reduced(self) -> np.ndarray:
        """X̃ (N, ≤rank bound) float64 with X̃·X̃ᵀ = X·Xᵀ: the features, rotated into as few as carry them."""

    @abstractmethod
    def sample_form(self) -> tuple[np.ndarray, np.ndarray | None]:
        """A (N, R) float64 and G (R, R) with X·Xᵀ = A·G·Aᵀ; G is None for the identity."""

    @abstractmethod
    def left_product(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """rows (K, N) times X, in blocks of columns: each (K, ≤P) float64."""

    @abstractmethod
    def centred(self) -> Matrix:
        """The same with the mean over rows subtracted from each column, float64 where it matters; kept."""

    @abstractmethod
    def take(self, rows: np.ndarray) -> Matrix:
        """These rows, in this order (resampling); not kept."""

    @abstractmethod
    def randomised(self, rng: np.random.Generator) -> Matrix:
        """Same structure; every stored entry drawn anew from a normal law with that array's mean square."""

    @property
    def problem(self) -> str | None:
        """Why no metric has a value here (empty, or not finite), or None."""
        n_rows, n_cols = self.shape
        if n_rows == 0 or n_cols == 0:
            return f"the matrix is empty ({n_rows} x {n_cols})"
        if self._n_bad:
            return f"{counted(self._n_bad, 'entry is', 'entries are')} not finite"
        return None

    @abstractmethod
    def _sizes(self) -> Iterator[tuple[float, int]]:
        """Largest magnitude and number of entries of each array that is multiplied, and of the products."""

    def out_of_range(self, power: int) -> str | None:
        """Why sums of this power of the entries of a finite matrix cannot be formed, or None.

        Squares of 1e160 are infinite and those of 1e-170 are zero: a metric that adds them up would be wrong,
        without an error.
        """
        for largest, count in self.memo("sizes of entries", lambda: list(self._sizes())):
            exponent = power * math.log10(largest) if largest > 0 else 0.0
            if exponent + math.log10(max(count, 1)) > _HIGHEST or exponent < _LOWEST:
                many = "large" if exponent > 0 else "small"
                return f"its entries are of the order {largest:.0e}, too {many} to be multiplied: scale them"
        return None

    @property
    def size(self) -> int:
        """Number of entries of the dense form."""
        return self.shape[0] * self.shape[1]

    @property
    def n_singular(self) -> int:
        """min(N, P): how many singular values the matrix has, zeros included."""
        return min(self.shape)

    @lazy
    def singular_values(self) -> np.ndarray:
        """The first ≤min(N, P) singular values, descending, float64; those left out are exactly zero. Computed once."""
        return singular_values(self.reduced())[: self.n_singular]

    @lazy
    def numerical_rank(self) -> NumericalRank:
        """How many singular values are more than rounding, the largest that are not, and the type that decides it."""
        return self.rank_of(self.singular_values)

    def rank_of(self, values: np.ndarray) -> NumericalRank:
        """The same where the singular values are at hand already."""
        return numerical_rank(values, self.shape, self.rounding, PRECISIONS[self.stored])

    @property
    def tolerance(self) -> float:
        """Singular values up to this are rounding."""
        return self.numerical_rank.tolerance

    @property
    def rank(self) -> int:
        """Number of singular values above `tolerance`."""
        return self.numerical_rank.rank

    def pieces(self) -> Iterator[np.ndarray]:
        """All entries once, as blocks of whole rows of `blocks`, each small enough to work on in float64."""
        for block in self.blocks():
            step = max(1, _PIECE_ELEMENTS // block.shape[1])
            for start in range(0, block.shape[0], step):
                yield block[start : start + step]

    def frobenius(self) -> float:
        """Square root of the sum of squares, from the singular values if they are known, else from the cores."""
        if "singular_values" in self.__dict__:
            return float(np.linalg.norm(self.singular_values))
        return float(np.linalg.norm(self.reduced()))

    @abstractmethod
    def energy(self) -> float:
        """Sum of squares of all entries, in the cheapest way (from Gram matrices of factors)."""

    @abstractmethod
    def column_means(self) -> Iterator[np.ndarray]:
        """Mean of each column, in blocks of columns, float64."""

    def varies(self) -> bool:
        """Whether anything is left, beyond rounding, once the mean over rows is subtracted from each column."""

        def compare() -> bool:
            centred = self.centred().energy()
            mean = sum(float(np.vdot(block, block)) for block in self.column_means()) * self.shape[0]
            return centred > 1e-24 * (centred + mean)

        return self.memo("varies", compare)

    @abstractmethod
    def sample_covariance(self) -> np.ndarray:
        """AᵀA (R, R) of `sample_form`."""

    @abstractmethod
    def row_means(self) -> np.ndarray:
        """Mean of each row, (N,) float64."""

    def dense(self) -> np.ndarray:
        """The whole (N, P) array, in the data's dtype."""
        return np.concatenate(list(self.blocks()), axis=1)

    def sample_gram(self) -> np.ndarray:
        """X·Xᵀ (N, N) float64."""
        a, g = self.sample_form()
        return np.asarray(a @ a.T if g is None else (a @ g) @ a.T)

    def left_singular_vectors(self, k: int) -> np.ndarray:
        """The first k left singular vectors, (N, k)."""
        return self._left_vectors()[0][:, :k]

    def _left_vectors(self) -> tuple[np.ndarray, np.ndarray]:
        core = self.reduced()
        if core.shape[1] > core.shape[0]:  # wider than the rows need: the right vectors would be for nothing
            core = triangular_root(core.T).T
        u, s, _ = thin_svd(core)
        return u, s

    def right_singular_vectors(self, k: int) -> np.ndarray:
        """The first k right singular vectors, (P, k); k at most the rank."""
        u, s = self._left_vectors()
        products = list(self.left_product(np.ascontiguousarray(u[:, :k].T)))
        return np.asarray((np.concatenate(products, axis=1) / s[:k, None]).T)


MatrixLike = Matrix | npt.ArrayLike
"""What can be measured: a matrix, or an array of two axes (nested lists are one too)."""


class Dense(Matrix):
    """A matrix stored as one array (N, P).

    Args:
        array: (N, P), any float type.
        samples: Whether rows are samples.
        stored: The type the numbers were stored in, where they were widened since; by default what the reader of
            their file marked the array with, or its own type.
        rounding: Gives what storing did to it, where the array was computed from what was stored.
    """

    def __init__(
        self,
        array: np.ndarray,
        *,
        samples: bool = False,
        stored: str | None = None,
        rounding: Rounding | None = None,
    ):
        super().__init__()
        self.array = np.asarray(array)
        self.samples = samples
        own = stored_type(array)
        self._stored = own if stored is None else coarsest([stored, own])
        self._given = rounding
        self._source = rounding or Once(partial(of_array, self.array, PRECISIONS[self._stored], samples=samples))

    @property
    def shape(self) -> tuple[int, int]:  # noqa: D102
        return self.array.shape[0], self.array.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:  # noqa: D102
        return self.array.dtype

    @property
    def stored(self) -> str:  # noqa: D102
        return self._stored

    @property
    def rounding(self) -> float:  # noqa: D102
        return self._source()

    @property
    def rank_bound(self) -> int:  # noqa: D102
        return min(self.shape)

    @property
    def feature_dim(self) -> int:  # noqa: D102
        return self.shape[1]

    @lazy
    def _n_bad(self) -> int:
        return int(self.array.size - np.count_nonzero(np.isfinite(self.array)))

    def _sizes(self) -> Iterator[tuple[float, int]]:
        yield largest_entry(self.array), self.size

    def frobenius(self) -> float:  # noqa: D102
        return math.sqrt(self.energy())

    def energy(self) -> float:  # noqa: D102
        return math.fsum(float(np.vdot(piece, piece)) for piece in self._wide_pieces())

    def column_means(self) -> Iterator[np.ndarray]:  # noqa: D102
        yield self.array.mean(axis=0, dtype=np.float64)

    def sample_covariance(self) -> np.ndarray:  # noqa: D102
        wide = np.asarray(self.array, np.float64)
        return np.asarray(wide.T @ wide)

    def _wide_pieces(self) -> Iterator[np.ndarray]:
        for piece in self.pieces():
            yield np.asarray(piece, np.float64)

    def row_means(self) -> np.ndarray:  # noqa: D102
        return np.asarray(self.array.mean(axis=1, dtype=np.float64))

    def blocks(self) -> Iterator[np.ndarray]:  # noqa: D102
        yield self.array

    def dense(self) -> np.ndarray:  # noqa: D102
        return self.array

    @lazy
    def singular_values(self) -> np.ndarray:  # noqa: D102
        return singular_values(self.array)

    def reduced(self) -> np.ndarray:  # noqa: D102
        n_rows, n_cols = self.shape
        if n_cols <= n_rows:
            return np.asarray(self.array, np.float64)
        return np.ascontiguousarray(triangular_root(self.array.T).T)

    def sample_form(self) -> tuple[np.ndarray, np.ndarray | None]:  # noqa: D102
        return np.asarray(self.array, np.float64), None

    def left_product(self, rows: np.ndarray) -> Iterator[np.ndarray]:  # noqa: D102
        yield rows @ self.array

    @lazy
    def _centred(self) -> Dense:
        wide = self.array.astype(np.float64)
        subtract_mean(wide, wide.mean(axis=0))
        # What storing did to it was done to what is centred here: a mean far from zero has the larger rounding.
        return Dense(wide, samples=self.samples, stored=self._stored, rounding=self._source)

    def centred(self) -> Matrix:  # noqa: D102
        return self._centred

    def take(self, rows: np.ndarray) -> Dense:  # noqa: D102
        return Dense(self.array[rows], samples=self.samples, stored=self._stored, rounding=self._given)

    def randomised(self, rng: np.random.Generator) -> Dense:  # noqa: D102
        return Dense(redrawn(self.array, rng), samples=self.samples, stored=self._stored)


def subtract_mean(wide: np.ndarray, mean: np.ndarray) -> None:
    """Subtract the mean over rows from a float64 array, in place.

    What is left of the mean by rounding is subtracted too: else it would be a direction of its own, the larger one the
    further the mean is from zero.
    """
    wide -= mean
    wide -= wide.mean(axis=0)


def largest_entry(array: np.ndarray) -> float:
    """Largest magnitude of an array; 0 of an empty one."""
    return float(max(array.max(), -array.min())) if array.size else 0.0


def redrawn(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An array of the same shape, dtype and mean square, drawn from a normal law."""
    scale = float(np.sqrt(np.mean(np.square(array, dtype=np.float64))))
    return (rng.standard_normal(array.shape) * scale).astype(array.dtype)


def as_matrix(values: MatrixLike) -> Matrix:
    """A matrix as it is; an array (or nested lists) as a dense one, a vector as one row. Half precision and integers
    are widened first.

    Raises:
        DataError: not real numbers, or more than two axes.
    """
    if isinstance(values, Matrix):
        return values
    return Dense(widened(values))


def activations(values: npt.ArrayLike, *, stored: str | None = None) -> Matrix:
    """An (N, P) array whose rows are samples: metrics that centre do so over them, as they do for captured activations.

    Args:
        values: The numbers.
        stored: The type they were stored in or computed as, where that is coarser than the array's: bfloat16, float16,
            float32. Directions of its rounding are not counted.

    Raises:
        DataError: not real numbers, or more than two axes.
        UsageError: there is no such type.
    """
    if stored is not None and stored not in PRECISIONS:
        raise UsageError(f"stored={stored!r} is not one of {', '.join(PRECISIONS)}{nearest(stored, PRECISIONS)}")
    return Dense(widened(values), samples=True, stored=stored)


def widened(values: npt.ArrayLike, *, name: str = "an array") -> np.ndarray:
    """A two-dimensional float32 or float64 array: float16, bfloat16 (as ml_dtypes) and integers are up-cast,
    vectors become one row. What was up-cast is marked with the type it was stored in.

    Raises:
        DataError: not real numbers, or more than two axes.
    """
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(f"{name} is not a matrix of real numbers: {error}") from None
    if array.ndim == 1:
        array = array[None, :]
    if array.ndim != 2 or array.dtype.kind in "cOSU":
        raise DataError(f"{name} of shape {array.shape} and type {array.dtype} is not a matrix of real numbers")
    stored = stored_type(values if isinstance(values, np.ndarray) else array)
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float64 if array.dtype.kind in "iu" else np.float32)
    return marked(array, coarsest([stored, stored_type(array)]))
