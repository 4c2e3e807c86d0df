"""Mutual nearest neighbours: do two representations put the same samples next to each other?"""

from __future__ import annotations

from typing import Literal

import numpy as np

from pico_analyze.counting import counted
from pico_analyze.matrices.distinct import n_distinct_samples
from pico_analyze.matrices.matrix import Matrix
from pico_analyze.metrics.resampling import Resampling
from pico_analyze.metrics.spec import MetricSpec, Result, pair_metric
from pico_analyze.parameters import Param

_ROWS = 1024


def sample_squares(x: Matrix) -> np.ndarray:
    """Sum of squares of each row, (N,)."""
    a, g = x.sample_form()
    return np.asarray(np.einsum("nr,nr->n", a if g is None else a @ g, a))


def nearest_neighbours(x: Matrix, k: int, distance: str) -> np.ndarray:
    """Indices of the k nearest other samples of each sample, (N, k), in no order; N > k."""

    def search() -> np.ndarray:
        a, g = x.sample_form()
        left = a if g is None else a @ g
        squares = sample_squares(x)
        found = np.empty((len(a), k), dtype=np.int64)
        for start in range(0, len(a), _ROWS):
            closeness = left[start : start + _ROWS] @ a.T
            if distance == "cosine":
                closeness /= np.sqrt(squares)  # the norm of the sample itself does not change the order
            else:
                closeness = 2.0 * closeness - squares
            rows = np.arange(len(closeness))
            closeness[rows, start + rows] = -np.inf
            found[start : start + _ROWS] = np.argpartition(closeness, -k, axis=1)[:, -k:]
        return found

    return x.memo(("nearest", k, distance), search)


@pair_metric
def mutual_knn(x: Matrix, y: Matrix, *, k: int = 10, distance: Literal["cosine", "euclidean"] = "cosine") -> Result:
    """Mean share of each sample's k nearest neighbours that two representations agree on.

    Among equally near samples the choice is arbitrary.

    Args:
        x: (N, P) activations: N samples (rows) of P features; an array or a `Matrix`. Taken as they are, not centred.
        y: (N, P′) activations of the same samples in the same order; P′ may differ from P.
        k: How many neighbours, at least 1.
        distance: What near means: cosine or euclidean.

    Returns:
        0 to 1; 1 where all neighbourhoods agree, about k/(N − 1) by chance (`extra`: chance). Undefined (NaN) for
        at most k different samples, when all samples of a side are equal, and (cosine) for a sample that is zero.

    Raises:
        UsageError: different numbers of rows, or a parameter or value that does not exist.
        DataError: not matrices of real numbers.

    References:
        Huh, Cheung, Wang and Isola 2024, The Platonic Representation Hypothesis, ICML, equation 11 (arXiv:2405.07987).
    """
    n = x.shape[0]
    if n <= k:
        return Result.undefined(
            f"{counted(n, 'sample has', 'samples have')} no {counted(k, 'neighbour')} each: this needs {k + 1}"
        )
    if (distinct := n_distinct_samples(x, y)) <= k:
        return Result.undefined(
            f"{counted(distinct, 'different sample has', 'different samples have')} no "
            f"{counted(k, 'neighbour')} each: this needs {k + 1}"
        )
    for matrix, which in ((x, "first"), (y, "second")):
        if not matrix.varies():
            return Result.undefined(f"the {which} representation does not vary over the samples")
        if distance == "cosine" and not (sample_squares(matrix) > 0).all():  # that of a circuit's may be -1e-20
            return Result.undefined(f"a sample of the {which} representation is zero: it has no direction (cosine)")
    rows = np.arange(n)[:, None]
    members = np.zeros((n, n), dtype=bool)
    members[rows, nearest_neighbours(x, k, distance)] = True
    shared = members[rows, nearest_neighbours(y, k, distance)].sum()
    return Result(float(shared) / (n * k), extra={"chance": k / (n - 1)})


MUTUAL_KNN = MetricSpec(
    name="mutual_knn",
    kind="pair",
    fn=mutual_knn,
    definition=(
        "Mean share of each sample's k nearest neighbours that are the same in both representations. Widths may differ."
    ),
    range="0 to 1; about k/(N−1) by chance",
    best="1: all neighbourhoods agree",
    cost="O(N²·R), in blocks of rows",
    reference="Huh et al. 2024, The Platonic Representation Hypothesis, ICML, equation 11 (arXiv:2405.07987)",
    accepts=frozenset({"activations"}),
    params={
        "k": Param(10, "how many neighbours", low=1),
        "distance": Param("cosine", "what near means", choices=("cosine", "euclidean")),
    },
    similar="high",
    resampling=lambda _params: Resampling(counts=("k",)),
    bounds=(0.0, 1.0),
)
