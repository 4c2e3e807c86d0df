"""Direct comparison of two matrices of the same shape: weights or gradients at two steps, or of two seeds.

Inner products and differences of circuits are taken on their factors: X·Yᵀ in R × R cores, and X − Y as a
product of factors [Lₓ − L_y | L_y]·[Rₓ | Rₓ − R_y]ᵀ, in which nearly equal circuits do not cancel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from pico_analyze.matrices.factored import Concatenated, Factor, Factored
from pico_analyze.matrices.matrix import Dense, Matrix
from pico_analyze.metrics.spec import MetricSpec, Result, pair_metric
from pico_analyze.stores.base import Data

_BOTH: frozenset[Data] = frozenset({"weights", "gradients"})


def _in_pairs(x: Matrix, y: Matrix) -> list[tuple[Factored, Factored]]:
    """The circuits that stand in the same place of both, equally wide; none where there are other matrices."""
    if isinstance(x, Factored) and isinstance(y, Factored):
        return [(x, y)]
    if not isinstance(x, Concatenated) or not isinstance(y, Concatenated):
        return []
    aligned = [p.shape for p in x.parts] == [p.shape for p in y.parts]
    return list(zip(x.parts, y.parts, strict=True)) if aligned else []


def _wide_pieces(x: Matrix, y: Matrix) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All entries of both once, in float64."""
    for p, q in zip(Dense(x.dense()).pieces(), Dense(y.dense()).pieces(), strict=True):
        yield p.astype(np.float64), q.astype(np.float64)


def inner(x: Matrix, y: Matrix) -> float:
    """Frobenius inner product Σ xᵢⱼ·yᵢⱼ."""
    if pairs := _in_pairs(x, y):
        return sum(float(np.vdot(_cross(a.left, b.left), _cross(a.right, b.right))) for a, b in pairs)
    return sum(float(np.vdot(p, q)) for p, q in _wide_pieces(x, y))


def _cross(x: Factor, y: Factor) -> np.ndarray:
    """Inner products of the columns of two factors, float64."""
    return np.asarray(x.array.T.astype(np.float64) @ y.array)


def distance(x: Matrix, y: Matrix) -> float:
    """Frobenius norm of X − Y."""
    if pairs := _in_pairs(x, y):
        return math.hypot(*(_apart(a, b) for a, b in pairs))
    return math.hypot(*(float(np.linalg.norm(p - q)) for p, q in _wide_pieces(x, y)))


def _apart(x: Factored, y: Factored) -> float:
    lx, ly, rx, ry = (f.array.astype(np.float64) for f in (x.left, y.left, x.right, y.right))
    if lx.shape[1] == ly.shape[1]:
        return Factored(np.hstack([lx - ly, ly]), np.hstack([rx, rx - ry])).frobenius()
    return Factored(np.hstack([lx, -ly]), np.hstack([rx, ry])).frobenius()


@pair_metric
def cosine(x: Matrix, y: Matrix) -> Result:
    """Cosine of the angle between two matrices, as vectors of their entries.

    Args:
        x: (N, P) array or `Matrix`: weights, or gradients.
        y: (N, P) target to compare with.

    Returns:
        −1 to 1; 1 for the same direction, 0 for unrelated ones. Undefined (NaN) when one is zero.

    Raises:
        UsageError: different numbers of rows or columns, or a parameter or value that does not exist.
        DataError: not matrices of real numbers.

    References:
        Salton and McGill 1983, Introduction to Modern Information Retrieval, section 6.
    """
    norms = x.frobenius() * y.frobenius()
    if norms == 0:
        return Result.undefined("a matrix is zero: it has no direction")
    return Result(max(-1.0, min(1.0, inner(x, y) / norms)))


@pair_metric
def relative_change(x: Matrix, y: Matrix) -> Result:
    """Frobenius norm of the difference to the target, over the norm of the target: ‖X − Y‖/‖Y‖.

    Args:
        x: (N, P) array or `Matrix`: weights, or gradients.
        y: (N, P) target to compare with.

    Returns:
        0 to infinity; 0 where nothing changed. Undefined (NaN) when the target is zero.

    Raises:
        UsageError: different numbers of rows or columns, or a parameter or value that does not exist.
        DataError: not matrices of real numbers.

    References:
        Golub and Van Loan 2013, Matrix Computations (4th ed.), section 2.6.2.
    """
    reference = y.frobenius()
    if reference == 0:
        return Result.undefined("the target is zero: change has no scale")
    return Result(distance(x, y) / reference)


COSINE = MetricSpec(
    name="cosine",
    kind="pair",
    fn=cosine,
    definition="Cosine of the angle between two matrices of the same shape, as vectors of their entries.",
    formula=r"\frac{\langle X, Y \rangle_F}{\|X\|_F \, \|Y\|_F}",
    range="-1 to 1",
    best="1: the same direction; 0: unrelated",
    cost="one pass; for circuits products of their factors",
    reference="Salton and McGill 1983, Introduction to Modern Information Retrieval, section 6",
    accepts=_BOTH,
    same_width=True,
    similar="high",
    power=2,
)

RELATIVE_CHANGE = MetricSpec(
    name="relative_change",
    kind="pair",
    fn=relative_change,
    definition="Frobenius norm of the difference to the target, over the norm of the target: ‖X − Y‖/‖Y‖.",
    formula=r"\frac{\|X - Y\|_F}{\|Y\|_F}",
    range="0 to infinity",
    best="0: unchanged",
    cost="one pass; for circuits a QR of their factors",
    reference="Golub and Van Loan 2013, Matrix Computations (4th ed.), section 2.6.2",
    accepts=_BOTH,
    same_width=True,
    similar="low",
    power=2,
)
