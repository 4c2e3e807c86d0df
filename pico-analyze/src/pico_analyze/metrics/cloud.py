"""The cloud of samples: whether it points one way (anisotropy), and how many dimensions it locally has.

Shapes: N samples (rows), P features, R columns of their reduced form.
"""

from __future__ import annotations

import numpy as np

from pico_analyze.counting import counted
from pico_analyze.matrices.distinct import n_distinct_samples, sample_numbers
from pico_analyze.matrices.matrix import Matrix
from pico_analyze.metrics.resampling import as_a_correlation
from pico_analyze.metrics.spec import MetricSpec, Result, single_metric
from pico_analyze.parameters import Param

_BLOCK = 1024
_CANDIDATES = 8
"""Nearest samples by products, of which the two nearest are found by differences: those have not lost digits."""
_FEWEST = 10


@single_metric
def anisotropy(matrix: Matrix) -> Result:
    """Mean cosine between two different samples, over all pairs: how much activations point the same way.

    Args:
        matrix: (N, P) array or `Matrix` of activations: N samples of P features, taken as it is, not centred.

    Returns:
        −1/(N − 1) to 1; 0 where directions are spread evenly, 1 where all samples point the same way. Undefined (NaN)
        for fewer than two different samples, and where a sample is zero. `extra`: distinct (samples).

    Raises:
        UsageError: a parameter that does not exist.
        DataError: not a matrix of real numbers.

    References:
        Ethayarajh 2019, How Contextual are Contextualized Word Representations?, EMNLP, section 3.4 and figure 1.
    """
    distinct = n_distinct_samples(matrix)
    if distinct < 2:
        return Result.undefined("all samples are the same one: there are no pairs", distinct=float(distinct))
    rows = matrix.reduced()
    norms = np.linalg.norm(rows, axis=1)
    if not (norms > 0).all():
        return Result.undefined("a sample is zero: it has no direction", distinct=float(distinct))
    total, n = (rows / norms[:, None]).sum(axis=0), len(rows)
    value = (float(total @ total) - n) / (n * (n - 1))
    return Result(max(-1.0, min(1.0, value)), extra={"distinct": float(distinct)})


@single_metric
def intrinsic_dimension(matrix: Matrix, *, discard: float = 0.1) -> Result:
    """Dimension of the manifold that samples lie on, from the distances of each to its two nearest (TwoNN).

    Where the density is even over such distances, the ratio μ = r₂/r₁ has the distribution 1 − μ⁻ᵈ whatever the
    density: d is the slope, through the origin, of −log(1 − F(μ)) over log μ, F being the share of samples with at most
    that ratio. Samples that are the same count once.

    Args:
        matrix: (N, P) array or `Matrix` of activations: N samples of P features.
        discard: Share of the largest ratios that is left out of the fit.

    Returns:
        Above 0; about d for samples of a d-dimensional manifold. Biased low where d is large and samples are few.
        Undefined (NaN) for fewer than 10 different samples, and where the two nearest are equally far from each.
        `extra`: distinct (samples).

    Raises:
        UsageError: a parameter that does not exist or a value that it does not take.
        DataError: not a matrix of real numbers.

    References:
        Facco, d'Errico, Rodriguez and Laio 2017, Estimating the intrinsic dimension of datasets by a minimal
        neighborhood information, Scientific Reports 7:12140, equation 3 and the algorithm after it.
    """
    _, places = np.unique(sample_numbers(matrix), return_index=True)
    distinct = len(places)
    facts = {"distinct": float(distinct)}
    if distinct < _FEWEST:
        return Result.undefined(
            f"{counted(distinct, 'different sample is', 'different samples are')} too few for distances of neighbours: "
            f"{_FEWEST} are the least",
            **facts,
        )
    ratios = np.sort(_ratios(matrix.centred().reduced()[places]))
    kept = min(int(distinct * (1.0 - discard)), distinct - 1)
    x = np.log(ratios[:kept])
    y = -np.log1p(-np.arange(1, kept + 1) / distinct)
    spread = float(x @ x)
    if not 1e-24 * kept < spread < np.inf:
        return Result.undefined("the two nearest of a sample are equally far from it: no dimension is told", **facts)
    return Result(float(x @ y) / spread, extra=facts)


def _ratios(rows: np.ndarray) -> np.ndarray:
    """Distance of each sample to its second nearest over that to its nearest, (N,)."""
    squares = np.einsum("nr,nr->n", rows, rows)
    k, found = min(_CANDIDATES, len(rows) - 1), np.empty(len(rows))
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        apart = squares - 2.0 * (block @ rows.T)
        here = np.arange(len(block))
        apart[here, start + here] = np.inf
        near = np.argpartition(apart, k - 1, axis=1)[:, :k]
        exact = np.sort(np.linalg.norm(rows[near] - block[:, None], axis=2), axis=1)
        found[start : start + len(block)] = exact[:, 1] / exact[:, 0]
    return found


ANISOTROPY = MetricSpec(
    name="anisotropy",
    kind="single",
    fn=anisotropy,
    definition="Mean cosine between two different samples, over all pairs: how much activations point the same way.",
    formula=r"\frac{1}{N(N-1)} \sum_{i \ne j} \frac{x_i \cdot x_j}{\|x_i\|\,\|x_j\|}",
    range="-1/(N−1) to 1",
    best="0: directions are spread evenly; 1: all samples point the same way",
    cost="one pass over all entries",
    reference="Ethayarajh 2019, How Contextual are Contextualized Word Representations?, EMNLP, section 3.4",
    accepts=frozenset({"activations"}),
    resampling=as_a_correlation,
    power=2,
)

INTRINSIC_DIMENSION = MetricSpec(
    name="intrinsic_dimension",
    kind="single",
    fn=intrinsic_dimension,
    definition=(
        "Dimension of the manifold that samples lie on, from the ratio of the distances of each to its two nearest "
        "(TwoNN). Samples that are the same count once."
    ),
    formula=(
        r"\hat d = \frac{\sum_i \ln \mu_{(i)} \, y_i}{\sum_i (\ln \mu_{(i)})^2}, \qquad "
        r"\mu = \frac{r_2}{r_1}, \qquad y_i = -\ln\Bigl(1 - \frac{i}{N}\Bigr)"
    ),
    range="above 0",
    best="d for samples of a d-dimensional manifold; too low where d is large and samples are few",
    cost="O(N²·R), in blocks of rows",
    reference=(
        "Facco et al. 2017, Estimating the intrinsic dimension of datasets by a minimal neighborhood information, "
        "Scientific Reports 7:12140"
    ),
    accepts=frozenset({"activations"}),
    params={"discard": Param(0.1, "share of the largest ratios that is left out of the fit", low=0.0, high=0.9)},
    power=2,
)
