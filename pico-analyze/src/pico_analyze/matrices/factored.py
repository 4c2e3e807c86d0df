"""Matrices that are products of thin factors, alone or side by side, and stay so.

A circuit such as W_O·W_V is a product of thin factors. Singular values, norms and everything that depends on
a matrix only through X·Xᵀ follow from small cores, exactly; only elementwise metrics form the product, block
by block. Factors that heads share (grouped-query values) are one object, so that what is derived from them is
computed once.

Shapes: N rows, P columns, R rank.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pico_analyze.matrices.decompositions import scipy_linalg, triangular_root
from pico_analyze.matrices.lazy import lazy
from pico_analyze.matrices.matrix import Matrix, largest_entry, redrawn, subtract_mean
from pico_analyze.matrices.rounding import StoredFactor, of_factors
from pico_analyze.stored import PRECISIONS, coarsest, marked, stored_type


class Factor:
    """A tall array (N, R) that one or more matrices are made of, with what is derived from it computed once.

    `stored` is the type it was stored in, and `as_stored` knows what that did to it: to the array itself, or to what it
    was centred from.
    """

    def __init__(self, array: np.ndarray, *, centred_from: Factor | None = None):
        self.stored: str = stored_type(array) if centred_from is None else centred_from.stored
        self.array = np.asarray(array)
        self.as_stored: StoredFactor = (
            StoredFactor(self.array, PRECISIONS[self.stored]) if centred_from is None else centred_from.as_stored
        )

    @property
    def shape(self) -> tuple[int, int]:
        """(N, R)."""
        return self.array.shape[0], self.array.shape[1]

    @lazy
    def gram(self) -> np.ndarray:
        """Inner products of the columns, (R, R) float64."""
        wide = np.asarray(self.array, np.float64)
        return wide.T @ wide

    @lazy
    def root(self) -> np.ndarray:
        """(≤R, R) upper triangular with rootᵀ·root = gram."""
        return triangular_root(self.array)

    @lazy
    def centred(self) -> Factor:
        """The same with the mean of each column subtracted, float64."""
        wide = self.array.astype(np.float64)
        subtract_mean(wide, self.mean)
        return Factor(wide, centred_from=self)

    @lazy
    def mean(self) -> np.ndarray:
        """Mean of each column, (R,) float64."""
        return np.asarray(np.asarray(self.array, np.float64).mean(axis=0))

    @lazy
    def n_bad(self) -> int:
        """Entries that are not finite."""
        return int(self.array.size - np.count_nonzero(np.isfinite(self.array)))

    def take(self, rows: np.ndarray) -> Factor:
        """These rows, in this order."""
        return Factor(marked(self.array[rows], self.stored))


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
    def stored(self) -> str:  # noqa: D102
        return coarsest([self.left.stored, self.right.stored])

    @lazy
    def rounding(self) -> float:  # noqa: D102
        left, right = self.left, self.right
        return of_factors(left.as_stored, right.as_stored, (left.gram, right.gram), samples=self.samples)

    @property
    def rank_bound(self) -> int:  # noqa: D102
        return min(*self.shape, self.left.shape[1])

    @property
    def feature_dim(self) -> int:  # noqa: D102
        return min(self.right.shape)

    def _sizes(self) -> Iterator[tuple[float, int]]:
        left, right = largest_entry(self.left.array), largest_entry(self.right.array)
        yield left, self.left.array.size
        yield right, self.right.array.size
        yield left * right, self.size * self.left.shape[1]

    def energy(self) -> float:  # noqa: D102
        return float(np.vdot(self.left.gram, self.right.gram))

    def column_means(self) -> Iterator[np.ndarray]:  # noqa: D102
        yield np.asarray(self.right.array, np.float64) @ self.left.mean

    def sample_covariance(self) -> np.ndarray:  # noqa: D102
        return self.left.gram

    def row_means(self) -> np.ndarray:  # noqa: D102
        return np.asarray(np.asarray(self.left.array, np.float64) @ self.right.mean)

    @property
    def _n_bad(self) -> int:
        return self.left.n_bad + self.right.n_bad

    def blocks(self) -> Iterator[np.ndarray]:  # noqa: D102
        yield self.left.array @ self.right.array.T

    def reduced(self) -> np.ndarray:  # noqa: D102
        return np.asarray(np.asarray(self.left.array, np.float64) @ self.right.root.T)

    def sample_form(self) -> tuple[np.ndarray, np.ndarray | None]:  # noqa: D102
        return np.asarray(self.left.array, np.float64), self.right.gram

    def left_product(self, rows: np.ndarray) -> Iterator[np.ndarray]:  # noqa: D102
        yield (rows @ self.left.array) @ self.right.array.T

    @lazy
    def _centred(self) -> Factored:
        return Factored(self.left.centred, self.right, samples=self.samples)

    def centred(self) -> Factored:  # noqa: D102
        return self._centred

    def take(self, rows: np.ndarray) -> Factored:  # noqa: D102
        return Factored(self.left.take(rows), self.right, samples=self.samples)

    def randomised(self, rng: np.random.Generator) -> Factored:  # noqa: D102
        return Factored(_redrawn(self.left, rng), _redrawn(self.right, rng), samples=self.samples)


def _redrawn(factor: Factor, rng: np.random.Generator) -> Factor:
    return Factor(marked(redrawn(factor.array, rng), factor.stored))


class Concatenated(Matrix):
    """Factored matrices side by side, [X₁ | X₂ | …]: all heads of a circuit. Parts may share factors."""

    def __init__(self, parts: Sequence[Factored]):
        super().__init__()
        if not parts:
            raise ValueError("nothing to concatenate")
        rows = {part.shape[0] for part in parts}
        if len(rows) > 1:
            raise ValueError("matrices side by side need the same number of rows")
        (self._n_rows,) = rows
        self.parts = tuple(parts)
        self.samples = any(part.samples for part in parts)

    @property
    def shape(self) -> tuple[int, int]:  # noqa: D102
        return self._n_rows, sum(part.shape[1] for part in self.parts)

    @property
    def dtype(self) -> np.dtype[Any]:  # noqa: D102
        return np.result_type(*(part.dtype for part in self.parts))

    @property
    def stored(self) -> str:  # noqa: D102
        return coarsest([part.stored for part in self.parts])

    @lazy
    def rounding(self) -> float:  # noqa: D102
        return math.hypot(*(part.rounding for part in self.parts))

    @property
    def rank_bound(self) -> int:  # noqa: D102
        return min(*self.shape, sum(left.shape[1] for left, _ in self._by_left))

    @property
    def feature_dim(self) -> int:  # noqa: D102
        return min(self.shape[1], sum(left.shape[1] for left, _ in self._by_left))

    def _sizes(self) -> Iterator[tuple[float, int]]:
        for part in self.parts:
            yield from part._sizes()  # noqa: SLF001 - of this family

    def energy(self) -> float:  # noqa: D102
        return sum(part.energy() for part in self.parts)

    def column_means(self) -> Iterator[np.ndarray]:  # noqa: D102
        for part in self.parts:
            yield from part.column_means()

    def sample_covariance(self) -> np.ndarray:  # noqa: D102
        lefts, _ = self.sample_form()
        return np.asarray(lefts.T @ lefts)

    def row_means(self) -> np.ndarray:  # noqa: D102
        sums = sum(part.row_means() * part.shape[1] for part in self.parts)
        return np.asarray(sums) / self.shape[1]

    @property
    def _n_bad(self) -> int:
        return sum({id(f): f.n_bad for part in self.parts for f in (part.left, part.right)}.values())

    @lazy
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
            root = triangular_root(np.concatenate([right.root for right in rights]))
            columns.append(np.asarray(left.array, np.float64) @ root.T)
        return np.concatenate(columns, axis=1)

    def sample_form(self) -> tuple[np.ndarray, np.ndarray | None]:  # noqa: D102
        return self.memo("lefts", self._lefts), self.memo("gram", self._gram)

    def _lefts(self) -> np.ndarray:
        wide = [np.asarray(left.array, np.float64) for left, _ in self._by_left]
        return np.concatenate(wide, axis=1)

    def _gram(self) -> np.ndarray:
        grams = [sum(right.gram for right in rights) for _, rights in self._by_left]
        return np.asarray(scipy_linalg().block_diag(*grams))

    def left_product(self, rows: np.ndarray) -> Iterator[np.ndarray]:  # noqa: D102
        for part in self.parts:
            yield from part.left_product(rows)

    @lazy
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
                    fresh[id(factor)] = _redrawn(factor, rng)
        return Concatenated([Factored(fresh[id(p.left)], fresh[id(p.right)], samples=p.samples) for p in self.parts])
