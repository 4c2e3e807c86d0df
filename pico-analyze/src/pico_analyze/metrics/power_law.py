"""The tail of a matrix's spectrum as a power law."""

from __future__ import annotations

import math
from operator import itemgetter
from typing import Literal

import numpy as np

from pico_analyze.matrices.matrix import Matrix
from pico_analyze.metrics.spec import MetricSpec, Result, single_metric
from pico_analyze.parameters import Param

_FEWEST = 10
"""Eigenvalues above rounding that a fit needs; with fewer, any law fits."""


def fit_tail(values: np.ndarray) -> tuple[float, float, float, int]:
    """α, x_min, Kolmogorov-Smirnov distance and tail size of the best continuous power law p(x) ∝ x^−α, x ≥
    x_min.

    α by maximum likelihood, 1 + n/Σ ln(x/x_min), for each candidate x_min among the values, and the x_min
    whose tail is nearest to its fit (Clauset, Shalizi & Newman 2009, equations 3.1 and 3.9). `values` (≥ 2
    distinct) are positive.
    """
    ascending = np.sort(values)
    logs = np.log(ascending)
    fits = []
    starts = np.flatnonzero(np.diff(ascending, prepend=-np.inf) > 0)
    for start in starts[:-1]:
        tail = logs[start:] - logs[start]
        n = len(tail)
        slope = n / tail.sum()  # α − 1
        fitted = -np.expm1(-slope * tail)
        below = np.arange(n) / n
        distance = max(float(np.max(np.abs(fitted - below))), float(np.max(np.abs(fitted - below - 1.0 / n))))
        fits.append((1.0 + float(slope), float(ascending[start]), distance, n))
    return min(fits, key=itemgetter(2))


@single_metric
def power_law_alpha(matrix: Matrix, *, method: Literal["mle", "rank"] = "mle") -> Result:
    """Exponent of the tail of the eigenvalue spectrum λ = s²; numerically zero ones are left out.

    `mle`: the density p(λ) ∝ λ^−α above the λ_min of the best fit. `rank`: λᵢ ∝ i^−α by least squares in logarithms
    over all ranks.

    Args:
        matrix: (N, P) array or `Matrix`. A plain array is taken as weights or gradients, as it is; give activations as
            `activations(matrix)`, and their mean over samples is subtracted.
        method: mle or rank.

    Returns:
        mle: above 1; rank: any number, positive in practice. None is best; 2 to 4 (mle) is found in well-trained
        weights. Undefined (NaN) with fewer than 10 eigenvalues, or when all are equal. `extra`: for mle ks (distance of
        the fit, 0 is perfect), xmin, n_tail and sigma = (α − 1)/√n_tail, its standard error; for rank r2.

    Raises:
        UsageError: a parameter that does not exist or a value that it does not take.
        DataError: not a matrix of real numbers.

    References:
        Clauset, Shalizi and Newman 2009, Power-Law Distributions in Empirical Data, SIAM Review 51, equations 3.1 and
        3.9; Martin and Mahoney 2021, Implicit Self-Regularization in Deep Neural Networks, JMLR 22, section 3; rank:
        Stringer et al. 2019, High-Dimensional Geometry of Population Responses in Visual Cortex, Nature 571.
    """
    if matrix.samples:
        matrix = matrix.centred()
    values = matrix.singular_values[: matrix.rank]
    if len(values) < _FEWEST:
        return Result.undefined(f"{len(values)} eigenvalues above rounding are too few: a fit needs {_FEWEST}")
    if values[0] <= values[-1] * (1 + 1e-9):
        return Result.undefined("all eigenvalues are equal: there is no tail")
    largest = float(values[0])
    eigenvalues = (values / largest) ** 2  # their exponents do not depend on the scale, and none of them vanishes
    if method == "rank":
        ranks = np.log(np.arange(1, len(values) + 1))
        logs = np.log(eigenvalues)
        ranks, logs = ranks - ranks.mean(), logs - logs.mean()
        slope = float(ranks @ logs / (ranks @ ranks))
        return Result(-slope, extra={"r2": float((ranks @ logs) ** 2 / ((ranks @ ranks) * (logs @ logs)))})
    alpha, x_min, distance, n_tail = fit_tail(eigenvalues)
    sigma = (alpha - 1.0) / math.sqrt(n_tail)
    x_min *= largest * largest
    return Result(alpha, extra={"ks": distance, "xmin": x_min, "n_tail": float(n_tail), "sigma": sigma})


POWER_LAW_ALPHA = MetricSpec(
    name="power_law_alpha",
    kind="single",
    fn=power_law_alpha,
    definition=(
        "Exponent of the tail of the spectrum of eigenvalues (squared singular values). method=mle: density "
        "p(λ) ∝ λ^−α above the xmin of the best fit, with ks, the distance of the fit, beside it; "
        "method=rank: λ_i ∝ i^−α, with r2."
    ),
    range="mle: above 1; rank: any number, positive in practice",
    best="none; Martin and Mahoney find 2 to 4 (mle) in well-trained weights. Read it together with ks or r2",
    cost="one SVD, shared, and O(m²) for the fit over m eigenvalues",
    reference=(
        "Clauset, Shalizi and Newman 2009, Power-law distributions in empirical data, equations 3.1 and "
        "3.9; Martin and Mahoney 2021, Implicit self-regularization, section 3; rank: Stringer et al. 2019, "
        "Nature 571"
    ),
    params={
        "method": Param("mle", "mle: exponent of the density's tail; rank: slope over ranks", choices=("mle", "rank"))
    },
)
