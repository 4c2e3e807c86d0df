"""Mutual nearest neighbours: do two representations put the same samples next to each other?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from pico_analyze.counting import counted
from pico_analyze.matrices.distinct import n_distinct_samples
from pico_analyze.matrices.matrix import Matrix
from pico_analyze.metrics.resampling import Resampling
from pico_analyze.metrics.spec import MetricSpec, Result, pair_metric
from pico_analyze.parameters import Param

if TYPE_CHECKING:
    import scipy.sparse

_ROWS = 1024
_ROUNDING = 16.0
"""Two samples are equally near where they differ by so many units of rounding."""


def sample_squares(x: Matrix) -> np.ndarray:
    """Sum of squares of each row, (N,)."""
    a, g = x.sample_form()
    return np.asarray(np.einsum("nr,nr->n", a if g is None else a @ g, a))


def neighbours(x: Matrix, k: int, distance: str) -> scipy.sparse.csr_array:
    """How surely each sample is among the k nearest others of each, (N, N), each row's sum is k; N > k.

    Samples that are equally near, up to rounding in the type of the data, share what places are left for them.
    """

    def search() -> scipy.sparse.csr_array:
        import scipy.sparse

        a, g = x.sample_form()
        left = a if g is None else a @ g
        squares = sample_squares(x)
        unit = _ROUNDING * float(np.finfo(x.dtype).eps)
        blocks = []
        for start in range(0, len(a), _ROWS):
            closeness = left[start : start + _ROWS] @ a.T
            if distance == "cosine":
                closeness /= np.sqrt(squares)  # the norm of the sample itself does not change the order
                slack = unit * np.sqrt(squares[start : start + _ROWS])
            else:
                closeness = 2.0 * closeness - squares
                slack = unit * squares[start : start + _ROWS]
            rows = np.arange(len(closeness))
            closeness[rows, start + rows] = -np.inf
            last = np.partition(closeness, -k, axis=1)[:, -k]
            nearer = closeness > (last + slack)[:, None]
            among = closeness >= (last - slack)[:, None]
            tied = among.sum(axis=1) - nearer.sum(axis=1)
            share = (k - nearer.sum(axis=1)) / tied
            row, column = np.nonzero(among)
            weight = np.where(nearer[row, column], 1.0, share[row])
            blocks.append(scipy.sparse.csr_array((weight, (row, column)), shape=closeness.shape))
        return scipy.sparse.vstack(blocks, format="csr")

    return x.memo(("nearest", k, distance), search)


@pair_metric
def mutual_knn(x: Matrix, y: Matrix, *, k: int = 10, distance: Literal["cosine", "euclidean"] = "cosine") -> Result:
    """Mean share of each sample's k nearest neighbours that two representations agree on.

    Where several samples are equally near and not all of them have a place among the k, each has its share of one: the
    value is the expected overlap of places drawn at random, in either representation for itself.

    Args:
        x: (N, P) activations: N samples (rows) of P features; an array or a `Matrix`. Taken as they are, not centred.
        y: (N, P′) activations of the same samples in the same order; P′ may differ from P.
        k: How many neighbours, at least 1.
        distance: What near means: cosine or euclidean.

    Returns:
        0 to 1; 1 where all neighbourhoods agree and none of them ends in a tie, about k/(N − 1) by chance (`extra`:
        chance). Undefined (NaN) for at most k + 1 different samples, where all others are neighbours of each, when all
        samples of a side are equal, and (cosine) for a sample that is zero.

    Raises:
        UsageError: different numbers of rows, or a parameter or value that does not exist.
        DataError: not matrices of real numbers.

    References:
        Huh, Cheung, Wang and Isola 2024, The Platonic Representation Hypothesis, ICML, equation 11 (arXiv:2405.07987).
    """
    n, distinct = x.shape[0], n_distinct_samples(x, y)
    if distinct <= k + 1:
        sample = "sample" if distinct == n else "different sample"
        return Result.undefined(
            f"{counted(distinct, f'{sample} is', f'{sample}s are')} too few for {counted(k, 'neighbour')} each: below "
            f"{k + 2} all others are neighbours"
        )
    for matrix, which in ((x, "first"), (y, "second")):
        if not matrix.varies():
            return Result.undefined(f"the {which} representation does not vary over the samples")
        if distance == "cosine" and not (sample_squares(matrix) > 0).all():  # that of a circuit's may be -1e-20
            return Result.undefined(f"a sample of the {which} representation is zero: it has no direction (cosine)")
    shared = float(neighbours(x, k, distance).multiply(neighbours(y, k, distance)).sum())
    return Result(min(1.0, shared / (n * k)), extra={"chance": k / (n - 1)})


MUTUAL_KNN = MetricSpec(
    name="mutual_knn",
    kind="pair",
    fn=mutual_knn,
    definition=(
        "Mean share of each sample's k nearest neighbours that are the same in both representations; where several are "
        "equally near, the expected share if ties are broken at random in each. Widths may differ."
    ),
    formula=r"\frac{1}{N} \sum_{i=1}^{N} \frac{|\mathcal{N}_k^X(i) \cap \mathcal{N}_k^Y(i)|}{k}",
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
    power=2,
)
