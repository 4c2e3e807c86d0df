"""Matrices that metrics measure: dense, factored, or several factored ones side by side.

A circuit such as W_O·W_V is a product of thin factors. It stays one: singular values, norms and everything that depends
on a matrix only through X·Xᵀ follow from small cores, exactly, and only elementwise metrics form the product, block by
block. Each matrix computes what several metrics need (singular values, centring) once and keeps it; factors that
heads share (grouped-query values) are one object, so what is derived from them is computed once too.

Shapes: N rows, P columns, R rank of a factored form. Decompositions are float64 whatever the input; elementwise blocks
keep the dtype of the data.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import scipy.linalg

T = TypeVar("T")

_BLOCK_ELEMENTS = 2**22
"""Elements of one dense block: 32 MiB in float64."""


def singular_values(matrix: np.ndarray) -> np.ndarray:
    """Singular values, descending, in float64; min(N, P) of them.

    LAPACK's divide-and-conquer SVD, and its slower QR iteration should that one not converge. A tall matrix is first
    reduced to its triangular factor, block of rows by block, so that no float64 copy of all of it is made.
    """
    return scipy_svd(_triangular_core(matrix), vectors=False)


def scipy_svd(matrix: np.ndarray, *, vectors: bool) -> Any:
    """`scipy.linalg.svd` (thin) of a finite matrix, which falls back to another driver instead of failing."""
    try:
        return scipy.linalg.svd(matrix, full_matrices=False, compute_uv=vectors, check_finite=False)
    except np.linalg.LinAlgError:
        return scipy.linalg.svd(
            matrix, full_matrices=False, compute_uv=vectors, check_finite=False, lapack_driver="gesvd"
        )


def triangular_root(matrix: np.ndarray) -> np.ndarray:
    """R (≤P, P) upper triangular with RᵀR = XᵀX, by QR (no squaring of the condition number), float64."""
    n_rows, n_cols = matrix.shape
    step = max(4 * n_cols, _BLOCK_ELEMENTS // max(1, n_cols))
    root = np.linalg.qr(matrix[:step].astype(np.float64), mode="r")
    for start in range(step, n_rows, step):
        block = matrix[start : start + step].astype(np.float64)
        root = np.linalg.qr(np.concatenate([root, block]), mode="r")
    return root


def _triangular_core(matrix: np.ndarray) -> np.ndarray:
    if matrix.shape[0] < matrix.shape[1]:
        matrix = matrix.T
    if matrix.shape[0] >= 2 * matrix.shape[1]:
        return triangular_root(matrix)
    return matrix.astype(np.float64)


class Factor:
    """A tall array (N, R) that one or more matrices are made of, with what is derived from it computed once."""

    def __init__(self, array: np.ndarray):
        self.array = array

    @property
    def shape(self) -> tuple[int, int]:
        """(N, R)."""
        return self.array.shape[0], self.array.shape[1]

    @cached_property
    def gram(self) -> np.ndarray:
        """Inner products of the columns, (R, R) float64."""
        wide = self.array.astype(np.float64, copy=False)
        return wide.T @ wide

    @cached_property
    def root(self) -> np.ndarray:
        """(≤R, R) upper triangular with rootᵀ·root = gram."""
        return triangular_root(self.array)

    @cached_property
    def centred(self) -> Factor:
        """The same with the mean of each column subtracted, float64."""
        wide = self.array.astype(np.float64)
        wide -= wide.mean(axis=0)
        return Factor(wide)

    @cached_property
    def n_bad(self) -> int:
        """Entries that are not finite."""
        return int(self.array.size - np.count_nonzero(np.isfinite(self.array)))

    def take(self, rows: np.ndarray) -> Factor:
        """These rows, in this order."""
        return Factor(self.array[rows])


class Matrix(ABC):
    """An (N, P) matrix, however it is stored. Immutable: what is computed from it is kept.

    `samples` says that rows are samples (activations) rather than units: metrics that centre do so over samples, and
    only such matrices can be resampled.
    """

    samples: bool

    def __init__(self) -> None:
        self._memo: dict[Hashable, Any] = {}

    def memo(self, key: Hashable, compute: Callable[[], T]) -> T:
        """`compute()` once, its result afterwards. For results that are small or dear."""
        if key not in self._memo:
            self._memo[key] = compute()
        return self._memo[key]

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
    def rank_bound(self) -> int:
        """No larger rank is possible, by shape and by factors."""

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
            return f"{self._n_bad} entries are not finite"
        return None

    @property
    def size(self) -> int:
        """Number of entries of the dense form."""
        return self.shape[0] * self.shape[1]

    @property
    def n_singular(self) -> int:
        """min(N, P): how many singular values the matrix has, zeros included."""
        return min(self.shape)

    @cached_property
    def singular_values(self) -> np.ndarray:
        """The first ≤min(N, P) singular values, descending, float64; those left out are exactly zero. Computed once."""
        return singular_values(self.reduced())[: self.n_singular]

    @cached_property
    def tolerance(self) -> float:
        """Singular values up to this are rounding: max(N, P) · eps of the data's dtype · the largest one."""
        eps = float(np.finfo(self.dtype).eps)
        return max(self.shape) * eps * float(self.singular_values[0])

    @property
    def rank(self) -> int:
        """Number of singular values above `tolerance`."""
        values = self.singular_values
        return int(np.count_nonzero(values > self.tolerance)) if values[0] > 0 else 0

    def dense(self) -> np.ndarray:
        """The whole (N, P) array, in the data's dtype."""
        return np.concatenate(list(self.blocks()), axis=1)

    def sample_gram(self) -> np.ndarray:
        """X·Xᵀ (N, N) float64."""
        a, g = self.sample_form()
        return a @ a.T if g is None else (a @ g) @ a.T

    def left_singular_vectors(self, k: int) -> np.ndarray:
        """The first k left singular vectors, (N, k)."""
        u, _, _ = scipy_svd(self.reduced(), vectors=True)
        return u[:, :k]

    def right_singular_vectors(self, k: int) -> np.ndarray:
        """The first k right singular vectors, (P, k); k at most the rank."""
        u, s, _ = scipy_svd(self.reduced(), vectors=True)
        products = list(self.left_product(np.ascontiguousarray(u[:, :k].T)))
        return (np.concatenate(products, axis=1) / s[:k, None]).T


class Dense(Matrix):
    """A matrix stored as one array (N, P)."""

    def __init__(self, array: np.ndarray, *, samples: bool = False):
        super().__init__()
        self.array = array
        self.samples = samples

    @property
    def shape(self) -> tuple[int, int]:  # noqa: D102
        return self.array.shape[0], self.array.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:  # noqa: D102
        return self.array.dtype

    @property
    def rank_bound(self) -> int:  # noqa: D102
        return min(self.shape)

    @cached_property
    def _n_bad(self) -> int:
        return int(self.array.size - np.count_nonzero(np.isfinite(self.array)))

    def blocks(self) -> Iterator[np.ndarray]:  # noqa: D102
        yield self.array

    def dense(self) -> np.ndarray:  # noqa: D102
        return self.array

    @cached_property
    def singular_values(self) -> np.ndarray:  # noqa: D102
        return singular_values(self.array)

    def reduced(self) -> np.ndarray:  # noqa: D102
        n_rows, n_cols = self.shape
        if n_cols <= n_rows:
            return self.array.astype(np.float64, copy=False)
        return np.ascontiguousarray(triangular_root(self.array.T).T)

    def sample_form(self) -> tuple[np.ndarray, np.ndarray | None]:  # noqa: D102
        return self.array.astype(np.float64, copy=False), None

    def left_product(self, rows: np.ndarray) -> Iterator[np.ndarray]:  # noqa: D102
        yield rows @ self.array

    @cached_property
    def _centred(self) -> Dense:
        wide = self.array.astype(np.float64)
        wide -= wide.mean(axis=0)
        return Dense(wide, samples=self.samples)

    def centred(self) -> Matrix:  # noqa: D102
        return self._centred

    def take(self, rows: np.ndarray) -> Dense:  # noqa: D102
        return Dense(self.array[rows], samples=self.samples)

    def randomised(self, rng: np.random.Generator) -> Dense:  # noqa: D102
        return Dense(_redrawn(self.array, rng), samples=self.samples)


class Factored(Matrix):
    """left · rightᵀ, with left (N, R) and right (P, R), never multiplied out unless an elementwise metric asks."""

    def __init__(self, left: Factor | np.ndarray, right: Factor | np.ndarray, *, samples: bool = False):
        super().__init__()
        self.left = left if isinstance(left, Factor) else Factor(left)
        self.right = right if isinstance(right, Factor) else Factor(right)
        self.samples = samples
        if self.left.shape[1] != self.right.shape[1]:
            raise ValueError(f"factors of rank {self.left.shape[1]} and {self.right.shape[1]} have no product")

    @property
    def shape(self) -> tuple[int, int]:  # noqa: D102
        return self.left.shape[0], self.right.shape[0]

    @property
    def dtype(self) -> np.dtype[Any]:  # noqa: D102
        return np.result_type(self.left.array, self.right.array)

    @property
    def rank_bound(self) -> int:  # noqa: D102
        return min(*self.shape, self.left.shape[1])

    @property
    def _n_bad(self) -> int:
        return self.left.n_bad + self.right.n_bad

    def blocks(self) -> Iterator[np.ndarray]:  # noqa: D102
        yield self.left.array @ self.right.array.T

    def reduced(self) -> np.ndarray:  # noqa: D102
        return self.left.array.astype(np.float64, copy=False) @ self.right.root.T

    def sample_form(self) -> tuple[np.ndarray, np.ndarray | None]:  # noqa: D102
        return self.left.array.astype(np.float64, copy=False), self.right.gram

    def left_product(self, rows: np.ndarray) -> Iterator[np.ndarray]:  # noqa: D102
        yield (rows @ self.left.array) @ self.right.array.T

    @cached_property
    def _centred(self) -> Factored:
        return Factored(self.left.centred, self.right, samples=self.samples)

    def centred(self) -> Factored:  # noqa: D102
        return self._centred

    def take(self, rows: np.ndarray) -> Factored:  # noqa: D102
        return Factored(self.left.take(rows), self.right, samples=self.samples)

    def randomised(self, rng: np.random.Generator) -> Factored:  # noqa: D102
        left, right = _redrawn(self.left.array, rng), _redrawn(self.right.array, rng)
        return Factored(left, right, samples=self.samples)


class Concatenated(Matrix):
    """Factored matrices side by side, [X₁ | X₂ | …]: all heads of a circuit. Parts may share factors."""

    def __init__(self, parts: Sequence[Factored]):
        super().__init__()
        if not parts:
            raise ValueError("nothing to concatenate")
        if len({part.shape[0] for part in parts}) > 1:
            raise ValueError("matrices side by side need the same number of rows")
        self.parts = tuple(parts)
        self.samples = parts[0].samples

    @property
    def shape(self) -> tuple[int, int]:  # noqa: D102
        return self.parts[0].shape[0], sum(part.shape[1] for part in self.parts)

    @property
    def dtype(self) -> np.dtype[Any]:  # noqa: D102
        return np.result_type(*(part.dtype for part in self.parts))

    @property
    def rank_bound(self) -> int:  # noqa: D102
        return min(*self.shape, sum(left.shape[1] for left, _ in self._by_left))

    @property
    def _n_bad(self) -> int:
        return sum({id(f): f.n_bad for part in self.parts for f in (part.left, part.right)}.values())

    @cached_property
    def _by_left(self) -> list[tuple[Factor, list[Factor]]]:
        """Each distinct left factor with the right factors it is multiplied with: they act as one tall factor."""
        grouped: dict[int, tuple[Factor, list[Factor]]] = {}
        for part in self.parts:
            grouped.setdefault(id(part.left), (part.left, []))[1].append(part.right)
        return list(grouped.values())

    def blocks(self) -> Iterator[np.ndarray]:  # noqa: D102
        for part in self.parts:
            yield from part.blocks()

    def reduced(self) -> np.ndarray:  # noqa: D102
        columns = []
        for left, rights in self._by_left:
            roots = [right.root for right in rights]
            root = roots[0] if len(roots) == 1 else np.linalg.qr(np.concatenate(roots), mode="r")
            columns.append(left.array.astype(np.float64, copy=False) @ root.T)
        return np.concatenate(columns, axis=1)

    def sample_form(self) -> tuple[np.ndarray, np.ndarray | None]:  # noqa: D102
        lefts = np.concatenate([left.array for left, _ in self._by_left], axis=1).astype(np.float64, copy=False)
        return lefts, self.memo("gram", self._gram)

    def _gram(self) -> np.ndarray:
        grams = [sum(right.gram for right in rights) for _, rights in self._by_left]
        return scipy.linalg.block_diag(*grams)

    def left_product(self, rows: np.ndarray) -> Iterator[np.ndarray]:  # noqa: D102
        for part in self.parts:
            yield from part.left_product(rows)

    @cached_property
    def _centred(self) -> Concatenated:
        centred = Concatenated([part.centred() for part in self.parts])
        centred._memo["gram"] = self.memo("gram", self._gram)
        return centred

    def centred(self) -> Concatenated:  # noqa: D102
        return self._centred

    def take(self, rows: np.ndarray) -> Concatenated:  # noqa: D102
        lefts = {id(left): left.take(rows) for left, _ in self._by_left}
        taken = Concatenated([Factored(lefts[id(p.left)], p.right, samples=p.samples) for p in self.parts])
        taken._memo["gram"] = self.memo("gram", self._gram)
        return taken

    def randomised(self, rng: np.random.Generator) -> Concatenated:  # noqa: D102
        fresh: dict[int, Factor] = {}
        for part in self.parts:
            for factor in (part.left, part.right):
                if id(factor) not in fresh:
                    fresh[id(factor)] = Factor(_redrawn(factor.array, rng))
        return Concatenated(
            [Factored(fresh[id(p.left)], fresh[id(p.right)], samples=p.samples) for p in self.parts]
        )


def _redrawn(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    scale = float(np.sqrt(np.mean(np.square(array, dtype=np.float64))))
    return (rng.standard_normal(array.shape) * scale).astype(array.dtype)


def as_matrix(values: Matrix | np.ndarray) -> Matrix:
    """A matrix as it is; an array as a dense one, a vector as one row. Half precision and integers are widened first.

    Raises:
        TypeError: not real numbers, or more than two axes.
    """
    if isinstance(values, Matrix):
        return values
    return Dense(widened(values))


def widened(values: np.ndarray, *, name: str = "an array") -> np.ndarray:
    """A two-dimensional float32 or float64 array: float16, bfloat16 (as ml_dtypes) and integers are up-cast, vectors become one row.

    Raises:
        TypeError: not real numbers, or more than two axes.
    """
    array = np.asarray(values)
    if array.ndim == 1:
        array = array[None, :]
    if array.ndim != 2 or array.dtype.kind in "cOSU":
        raise TypeError(f"{name} of shape {array.shape} and type {array.dtype} is not a matrix of real numbers")
    if array.dtype in (np.float32, np.float64):
        return array
    return array.astype(np.float64 if array.dtype.kind in "iu" else np.float32)
