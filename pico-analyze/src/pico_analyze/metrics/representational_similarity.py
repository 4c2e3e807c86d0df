"""Representational similarity analysis: do two representations find the same samples alike?"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.spatial.distance import squareform
from scipy.stats import rankdata

from pico_analyze.counting import counted
from pico_analyze.matrices.distinct import n_distinct_samples, sample_numbers
from pico_analyze.matrices.matrix import Matrix
from pico_analyze.metrics.resampling import as_a_correlation
from pico_analyze.metrics.spec import MetricSpec, Result, pair_metric
from pico_analyze.parameters import Param

_FEWEST = 3
_ROUNDING = 16.0


def dissimilarities(x: Matrix, kind: str) -> np.ndarray | None:
    """Upper triangle of the dissimilarity matrix of the rows, (N(N−1)/2,); None where a row has no direction.

    correlation: 1 − Pearson correlation of two rows over features; cosine: 1 − cosine; euclidean: distance. Rows that
    are the same up to rounding are one: at distance 0 from each other, and equally far from any other.
    """
    _, first, which = np.unique(sample_numbers(x), return_index=True, return_inverse=True)
    repeated = len(first) < x.shape[0]
    between = _between(x.take(first) if repeated else x, kind)
    if between is None:
        return None
    if repeated:  # rounding of one order of two samples must not set it apart from the other
        between = np.minimum(between, between.T)[which][:, which]
    return _above_diagonal(between)


def _between(x: Matrix, kind: str) -> np.ndarray | None:
    """The whole matrix, (N, N), its diagonal zero."""
    gram = x.sample_gram()
    squares = np.diag(gram).copy()
    if kind == "euclidean":
        sums = squares[:, None] + squares[None, :]
        between = sums - 2.0 * gram
        # A squared distance is a difference: what is below rounding of its terms is zero.
        between[between < 8 * np.finfo(np.float64).eps * sums] = 0.0
        np.fill_diagonal(between, 0.0)
        return np.asarray(np.sqrt(between))
    if kind == "correlation":
        means = x.row_means()
        gram -= x.shape[1] * np.outer(means, means)
        varying = np.diag(gram) > 1e-12 * squares
        squares = np.diag(gram).copy()
    else:
        varying = squares > 0
    if not varying.all():
        return None
    norms = np.sqrt(squares)
    gram /= norms
    gram /= norms[:, None]
    between = 1.0 - gram
    # Two rows of one direction, stored in this type, are apart by the square of its rounding.
    between[between < _ROUNDING * max(float(np.finfo(np.float64).eps), float(np.finfo(x.dtype).eps) ** 2)] = 0.0
    np.fill_diagonal(between, 0.0)
    return np.asarray(between)


def _above_diagonal(symmetric: np.ndarray) -> np.ndarray:
    """Upper triangle without the diagonal, row by row."""
    return np.asarray(squareform(symmetric, force="tovector", checks=False))


@pair_metric
def rsa(
    x: Matrix,
    y: Matrix,
    *,
    dissimilarity: Literal["correlation", "cosine", "euclidean"] = "correlation",
    compare: Literal["spearman", "pearson"] = "spearman",
) -> Result:
    """Representational similarity analysis: whether two representations find the same samples alike.

    Correlation, over all N(N − 1)/2 pairs of samples, of the dissimilarities in one with those in the other.

    Args:
        x: (N, P) activations: N samples (rows) of P features; an array or a `Matrix`. Taken as they are, not centred.
        y: (N, P′) activations of the same samples in the same order; P′ may differ from P.
        dissimilarity: Of two samples: 1 − Pearson correlation over the features, 1 − cosine, or euclidean distance.
        compare: Correlation of the two sets of dissimilarities: spearman or pearson.

    Returns:
        −1 to 1; 1 where the same samples are alike in both, about 0 by chance. Undefined (NaN) for fewer than 3
        different samples, for a sample without direction (correlation: all its features equal; cosine: all zero), and
        when all dissimilarities of a side are equal.

    Raises:
        UsageError: different numbers of rows, or a parameter or value that does not exist.
        DataError: not matrices of real numbers.

    References:
        Kriegeskorte, Mur and Bandettini 2008, Representational Similarity Analysis, Frontiers in Systems Neuroscience
        2:4.
    """
    n = n_distinct_samples(x, y)
    if n < _FEWEST:
        sample = "sample" if n == x.shape[0] else "different sample"
        return Result.undefined(f"{counted(n, f'{sample} is', f'{sample}s are')} too few: this needs {_FEWEST}")
    lists = []
    for matrix, which in ((x, "first"), (y, "second")):
        values = dissimilarities(matrix, dissimilarity)
        if values is None:
            return Result.undefined(f"a sample of the {which} representation has no direction ({dissimilarity})")
        scale = float(values.max()) if dissimilarity == "euclidean" else 1.0
        if np.ptp(values) <= 1e-12 * scale:
            return Result.undefined(f"all dissimilarities of the {which} representation are equal")
        lists.append(rankdata(values) if compare == "spearman" else values / scale)
    first, second = (values - values.mean() for values in lists)
    spread = float(np.linalg.norm(first) * np.linalg.norm(second))
    return Result(max(-1.0, min(1.0, float(first @ second) / spread)))


RSA = MetricSpec(
    name="rsa",
    kind="pair",
    fn=rsa,
    definition=(
        "Correlation (over all pairs of samples) of the dissimilarities in one representation with those in "
        "the other. Widths may differ."
    ),
    formula=(
        r"\operatorname{corr}\bigl(\{d_X(i, j)\}_{i<j},\ \{d_Y(i, j)\}_{i<j}\bigr), \qquad "
        r"d_X(i, j) = 1 - \operatorname{corr}(x_i, x_j)"
    ),
    range="-1 to 1; about 0 by chance",
    best="1: the same samples are alike in both",
    cost="O(N²·R) and a sort of N²/2 values (spearman); N x N in memory",
    reference="Kriegeskorte, Mur and Bandettini 2008, Frontiers in Systems Neuroscience 2:4",
    accepts=frozenset({"activations"}),
    params={
        "dissimilarity": Param("correlation", "between two samples", choices=("correlation", "cosine", "euclidean")),
        "compare": Param("spearman", "between the two sets of dissimilarities", choices=("spearman", "pearson")),
    },
    similar="high",
    resampling=as_a_correlation,
    power=2,
)
