"""The tail of a matrix's spectrum as a power law."""

from __future__ import annotations

import math
from operator import itemgetter
from typing import Literal

import numpy as np

from pico_analyze.errors import UsageError
from pico_analyze.matrices.matrix import Matrix
from pico_analyze.metrics.centring import centre_param, centred
from pico_analyze.metrics.spec import MetricSpec, Result, single_metric
from pico_analyze.parameters import Param

_FEWEST = 10
"""Eigenvalues above rounding that a fit needs; with fewer, any law fits."""


Weighting = Literal["none", "inverse_rank"]
Sided = Literal["two_sided", "one_sided"]


def fit_tail(values: np.ndarray, ks: Sided = "two_sided") -> tuple[float, float, float, int]:
    """α, x_min, Kolmogorov-Smirnov distance and tail size of the best continuous power law p(x) ∝ x^−α, x ≥
    x_min.

    α by maximum likelihood, 1 + n/Σ ln(x/x_min), for each candidate x_min among the values, and the x_min
    whose tail is nearest to its fit (Clauset, Shalizi & Newman 2009, equations 3.1 and 3.9). `values` (≥ 2
    distinct) are positive. The empirical distribution steps up at each value: two_sided takes the larger distance of
    the fit from the step's two ends, the statistic itself; one_sided that from its lower end, as plfit and powerlaw do.
    """
    ascending = np.sort(values)
    logs = np.log(ascending)
    fits = []
    starts = np.flatnonzero(np.diff(ascending, prepend=-np.inf) > 0)
    for start in starts[:-1]:
        tail = logs[start:] - logs[start]
        n = len(tail)
        slope = n / tail.sum()  # α − 1
        above_lower_ends = -np.expm1(-slope * tail) - np.arange(n) / n
        distance = float(np.max(np.abs(above_lower_ends)))
        if ks == "two_sided":
            distance = max(distance, float(np.max(np.abs(above_lower_ends - 1.0 / n))))
        fits.append((1.0 + float(slope), float(ascending[start]), distance, n))
    return min(fits, key=itemgetter(2))


def fit_ranks(eigenvalues: np.ndarray, first: int, weighting: Weighting) -> tuple[float, float]:
    """α and r² of λᵢ ∝ i^−α by least squares in logarithms, of eigenvalues (descending) whose first has rank `first`.

    inverse_rank: each rank i counts as 1/i, so that decades of ranks count alike.
    """
    ranks = np.arange(first, first + len(eigenvalues), dtype=np.float64)
    weights = 1.0 / ranks if weighting == "inverse_rank" else np.ones(len(ranks))
    weights /= weights.sum()
    x, y = np.log(ranks), np.log(eigenvalues)
    x, y = x - weights @ x, y - weights @ y
    xx, xy, yy = weights @ (x * x), weights @ (x * y), weights @ (y * y)
    return float(-xy / xx), float(xy * xy / (xx * yy))


@single_metric
def power_law_alpha(
    matrix: Matrix,
    *,
    method: Literal["mle", "rank"] = "mle",
    ks: Literal["two_sided", "one_sided"] = "two_sided",
    first_rank: int = 1,
    last_rank: int = 0,
    weighting: Literal["none", "inverse_rank"] = "none",
    centre: Literal["auto", "yes", "no"] = "auto",
) -> Result:
    """Exponent of the tail of the eigenvalue spectrum λ = s²; numerically zero ones are left out.

    `mle`: the density p(λ) ∝ λ^−α above the λ_min of the best fit. `rank`: λᵢ ∝ i^−α by least squares in logarithms
    over a range of ranks i. α-ReQ is `rank` of activations over the ranks between the first few and where the spectrum
    falls off, as Stringer et al. fitted it: first_rank=11, last_rank=500, weighting=inverse_rank.

    Args:
        matrix: (N, P) array or `Matrix`. A plain array is taken as weights or gradients; give activations as
            `activations(matrix)`, or set centre.
        method: mle or rank.
        ks: mle: which distance of tail and fit is least at λ_min. two_sided: Kolmogorov and Smirnov's, from both ends
            of each step of the empirical distribution; one_sided: from the lower ends, as Clauset's plfit and the
            powerlaw package compute it.
        first_rank: rank: the first of the ranks that are fitted, from 1.
        last_rank: rank: the last of them; 0, or one beyond it, stands for the numerical rank.
        weighting: rank: none (each rank counts alike) or inverse_rank (rank i counts as 1/i).
        centre: Whether the mean over rows is subtracted, so that λ are those of the covariance: auto (from activations
            only), yes, no.

    Returns:
        mle: above 1; rank: any number, positive in practice. None is best; 2 to 4 (mle) is found in well-trained
        weights, and α-ReQ near 1 in representations that generalise. Undefined (NaN) with fewer than 10 eigenvalues (in
        the range of ranks), when all are equal, or nothing varies. `extra`: for mle ks (distance of the fit, 0 is
        perfect), xmin, n_tail and sigma = (α − 1)/√n_tail, its standard error; for rank r2, first_rank and last_rank;
        for both rank, tolerance and stored (numerical rank, the largest singular value that counts as rounding, the
        type that decides it).

    Raises:
        UsageError: a parameter that does not exist or a value that it does not take.
        DataError: not a matrix of real numbers.

    References:
        Clauset, Shalizi and Newman 2009, Power-Law Distributions in Empirical Data, SIAM Review 51, equations 3.1 and
        3.9; Martin and Mahoney 2021, Implicit Self-Regularization in Deep Neural Networks, JMLR 22, section 3; rank:
        Stringer et al. 2019, High-Dimensional Geometry of Population Responses in Visual Cortex, Nature 571; α-ReQ:
        Agrawal, Mondal, Ghosh and Richards 2022, α-ReQ: Assessing Representation Quality in Self-Supervised Learning by
        Measuring Eigenspectrum Decay, NeurIPS.
    """
    if method == "rank" and last_rank and last_rank < first_rank:
        raise UsageError(
            f"metric 'power_law_alpha': last_rank={last_rank} is below first_rank={first_rank}: give a range of ranks"
        )
    meant = centred(matrix, centre)
    if isinstance(meant, Result):
        return meant
    found = meant.numerical_rank
    values, facts = meant.singular_values[: found.rank], found.facts()
    first, last = 1, found.rank
    if method == "rank":
        first, last = first_rank, min(last_rank or found.rank, found.rank)
    count = max(0, last - first + 1)
    if count < _FEWEST:
        within = f" from rank {first_rank} to {last_rank or 'the last'}" if count < found.rank else ""
        return Result.undefined(
            f"{count} eigenvalues above rounding{within} are too few: a fit needs {_FEWEST}", **facts
        )
    values = values[first - 1 : last]
    if values[0] <= values[-1] * (1 + 1e-9):
        return Result.undefined("all eigenvalues are equal: there is no tail", **facts)
    largest = float(values[0])
    eigenvalues = (values / largest) ** 2  # their exponents do not depend on the scale, and none of them vanishes
    if method == "rank":
        slope, r2 = fit_ranks(eigenvalues, first, weighting)
        return Result(slope, extra={"r2": r2, "first_rank": float(first), "last_rank": float(last), **facts})
    alpha, x_min, distance, n_tail = fit_tail(eigenvalues, ks)
    sigma = (alpha - 1.0) / math.sqrt(n_tail)
    x_min *= largest * largest
    return Result(alpha, extra={"ks": distance, "xmin": x_min, "n_tail": float(n_tail), "sigma": sigma, **facts})


POWER_LAW_ALPHA = MetricSpec(
    name="power_law_alpha",
    kind="single",
    fn=power_law_alpha,
    definition=(
        "Exponent of the tail of the spectrum of eigenvalues (squared singular values above rounding). method=mle: "
        "density p(λ) ∝ λ^−α above the xmin of the best fit, with ks, the distance of the fit, beside it: two-sided, "
        "or one-sided (ks=one_sided) as plfit and the powerlaw package compute it. method=rank: λ_i ∝ i^−α over a "
        "range of ranks, with r2; α-ReQ is first_rank=11, last_rank=500, weighting=inverse_rank. Activations are "
        "centred over samples first (centre=auto)."
    ),
    formula=(
        r"\hat\alpha = 1 + n \Bigl(\sum_{\lambda_i \ge \lambda_{\min}} \ln \frac{\lambda_i}{\lambda_{\min}}\Bigr)^{-1}"
        r", \qquad \lambda_i = s_i^2, \qquad n = \#\{\, i : \lambda_i \ge \lambda_{\min} \,\}"
    ),
    range="mle: above 1; rank: any number, positive in practice",
    best="none; Martin and Mahoney find 2 to 4 (mle) in well-trained weights. Read it together with ks or r2",
    cost="one SVD, shared, and O(m²) for the fit over m eigenvalues",
    reference=(
        "Clauset, Shalizi and Newman 2009, Power-law distributions in empirical data, equations 3.1 and "
        "3.9; Martin and Mahoney 2021, Implicit self-regularization, section 3; rank: Stringer et al. 2019, "
        "Nature 571; Agrawal et al. 2022, α-ReQ, NeurIPS"
    ),
    params={
        "method": Param("mle", "mle: exponent of the density's tail; rank: slope over ranks", choices=("mle", "rank")),
        "ks": Param(
            "two_sided",
            "mle: distance of the fit from both ends of each step of the empirical distribution, or the lower ones",
            choices=("two_sided", "one_sided"),
        ),
        "first_rank": Param(1, "rank: the first of the ranks that are fitted", low=1),
        "last_rank": Param(0, "rank: the last of them; 0: the numerical rank", low=0),
        "weighting": Param(
            "none",
            "rank: none: all ranks count alike; inverse_rank: rank i counts as 1/i",
            choices=("none", "inverse_rank"),
        ),
        "centre": centre_param(),
    },
    revision=1,
    power=2,
)
