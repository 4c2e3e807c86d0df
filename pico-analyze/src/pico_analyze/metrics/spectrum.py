"""Metrics of the singular values: how many directions a matrix uses, and how evenly.

All read the same singular values s₁ ≥ s₂ ≥ … of an (N, P) matrix, m = min(N, P) of them, computed once per
matrix.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from pico_analyze.matrices.matrix import Matrix
from pico_analyze.metrics.spec import MetricSpec, Result, single_metric
from pico_analyze.parameters import Param

_ZERO = "all entries are zero"


@single_metric
def condition_number(matrix: Matrix, *, over: Literal["rank", "all"] = "rank") -> Result:
    """Largest over smallest singular value.

    Args:
        matrix: (N, P) array or `Matrix` of weights, gradients or activations, taken as it is.
        over: rank: s₁/s_r with r the numerical rank (s_r > max(N, P)·eps·s₁, eps of the data's type), which is finite;
            all: s₁/s_m over all m = min(N, P), infinite where r < m.

    Returns:
        1 to infinity; 1 where all directions are stretched alike. Undefined (NaN) for the zero matrix. `extra`: rank,
        and full, the value over all.

    Raises:
        UsageError: a parameter that does not exist or a value that it does not take.
        DataError: not a matrix of real numbers.

    References:
        Golub and Van Loan 2013, Matrix Computations (4th ed.), equation 2.6.5.
    """
    values, rank = matrix.singular_values, matrix.rank
    if rank == 0:
        return Result.undefined(_ZERO, rank=0.0)
    full = float(values[0] / values[rank - 1]) if rank == matrix.n_singular else math.inf
    value = full if over == "all" else float(values[0] / values[rank - 1])
    return Result(value, extra={"rank": float(rank), "full": full})


def _entropy(shares: np.ndarray) -> float:
    positive = shares[shares > 0]
    return float(-np.sum(positive * np.log(positive)))


def _effective_rank(matrix: Matrix) -> float:
    values = matrix.singular_values
    return math.exp(_entropy(values / values.sum()))


@single_metric
def effective_rank(matrix: Matrix) -> Result:
    """exp of the Shannon entropy (natural logarithm) of the singular values divided by their sum.

    Args:
        matrix: (N, P) array or `Matrix` of weights, gradients or activations, taken as it is.

    Returns:
        1 to m = min(N, P); m where all directions are used equally, 1 for a single direction. Undefined (NaN) for the
        zero matrix. `extra`: rank.

    Raises:
        UsageError: a parameter that does not exist or a value that it does not take.
        DataError: not a matrix of real numbers.

    References:
        Roy and Vetterli 2007, The Effective Rank: A Measure of Effective Dimensionality, EUSIPCO, definition 1.
    """
    if matrix.singular_values[0] == 0:
        return Result.undefined(_ZERO, rank=0.0)
    return Result(_effective_rank(matrix), extra={"rank": float(matrix.rank)})


@single_metric
def per(matrix: Matrix) -> Result:
    """Proportional effective rank: the effective rank over m = min(N, P).

    m counts the zero singular values too, so a head's d × d circuit has at most head_dim / d.

    Args:
        matrix: (N, P) array or `Matrix` of weights, gradients or activations, taken as it is.

    Returns:
        1/m to 1; 1 where every direction is used equally. Undefined (NaN) for the zero matrix. `extra`: effective_rank,
        rank.

    Raises:
        UsageError: a parameter that does not exist or a value that it does not take.
        DataError: not a matrix of real numbers.

    References:
        Diehl Martinez et al. 2024, Tending Towards Stability, Findings of EMNLP, section 3 (arXiv:2410.11451).
    """
    if matrix.singular_values[0] == 0:
        return Result.undefined(_ZERO, rank=0.0)
    rank = _effective_rank(matrix)
    return Result(rank / matrix.n_singular, extra={"effective_rank": rank, "rank": float(matrix.rank)})


@single_metric
def stable_rank(matrix: Matrix) -> Result:
    """Squared Frobenius norm over squared spectral norm, Σs²/s₁²: how many directions are as strong as the strongest.

    Args:
        matrix: (N, P) array or `Matrix` of weights, gradients or activations, taken as it is.

    Returns:
        1 to m = min(N, P); m where all directions are equally strong. Undefined (NaN) for the zero matrix.

    Raises:
        UsageError: a parameter that does not exist or a value that it does not take.
        DataError: not a matrix of real numbers.

    References:
        Rudelson and Vershynin 2007, Sampling from Large Matrices, J. ACM 54, section 1.
    """
    values = matrix.singular_values
    if values[0] == 0:
        return Result.undefined(_ZERO)
    return Result(float(np.sum((values / values[0]) ** 2)))


@single_metric
def participation_ratio(matrix: Matrix, *, centre: Literal["auto", "yes", "no"] = "auto") -> Result:
    """(Σλ)²/Σλ² of the eigenvalues λ = s²: over how many directions the variance is spread.

    Args:
        matrix: (N, P) array or `Matrix`. A plain array is taken as weights or gradients; give activations as
            `activations(matrix)`, or set centre.
        centre: Whether the mean over rows is subtracted, so that λ are those of the covariance: auto (from activations
            only), yes, no.

    Returns:
        1 to m = min(N, P); m where the variance is spread evenly. Undefined (NaN) where all λ are zero.

    Raises:
        UsageError: a parameter that does not exist or a value that it does not take.
        DataError: not a matrix of real numbers.

    References:
        Gao et al. 2017, A Theory of Multineuronal Dimensionality, Dynamics and Measurement, equation 3.
    """
    if centre == "yes" or (centre == "auto" and matrix.samples):
        if matrix.shape[0] < 2:
            return Result.undefined("one sample has no variance")
        if not matrix.varies():
            return Result.undefined("no column varies over the rows")
        matrix = matrix.centred()
    values = matrix.singular_values
    if values[0] == 0:
        return Result.undefined(_ZERO)
    shares = (values / values[0]) ** 2
    return Result(float(shares.sum() ** 2 / np.sum(shares**2)))


@single_metric
def rankme(matrix: Matrix, *, epsilon: float = 1e-7) -> Result:
    """exp(−Σ p·ln p) with p = s/Σs + ε over all m singular values of representations.

    An effective rank whose smoothing ε is part of the published definition.

    Args:
        matrix: (N, P) activations: N samples (rows) of P features; an array or a `Matrix`. Taken as they are, not
            centred, as published.
        epsilon: Smoothing added to each share, 0 to 0.1.

    Returns:
        1 to m = min(N, P), up to ε; m for representations that did not collapse. Undefined (NaN) for the zero matrix.

    Raises:
        UsageError: a parameter that does not exist or a value that it does not take.
        DataError: not a matrix of real numbers.

    References:
        Garrido, Balestriero, Najman and LeCun 2023, RankMe, ICML, equations 1 and 2 (arXiv:2210.02885).
    """
    values = matrix.singular_values
    if values[0] == 0:
        return Result.undefined(_ZERO)
    shares = np.pad(values / values.sum(), (0, matrix.n_singular - len(values)))
    return Result(math.exp(_entropy(shares + epsilon)))


_SVD = "one SVD, shared by all spectral metrics: O(N·P·min(N, P)), or O((N + P)·R²) for a circuit of rank R"

CONDITION_NUMBER = MetricSpec(
    name="condition_number",
    kind="single",
    fn=condition_number,
    definition=(
        "Largest over smallest singular value, over the numerical rank (singular values above max(N, "
        "P)·eps·s1); the rank stands beside it, and `full`, the value over all min(N, P) singular values: "
        "infinite when the rank is less."
    ),
    range="1 to infinity",
    best="1: all directions are stretched alike",
    cost=_SVD,
    reference="Golub and Van Loan 2013, Matrix Computations (4th ed.), equation 2.6.5",
    params={
        "over": Param("rank", "rank: over the numerical rank; all: over every singular value", choices=("rank", "all"))
    },
    axis="log",
)

EFFECTIVE_RANK = MetricSpec(
    name="effective_rank",
    kind="single",
    fn=effective_rank,
    definition="exp of the Shannon entropy (natural logarithm) of the singular values divided by their sum.",
    range="1 to min(N, P)",
    best="min(N, P): all directions are used equally; 1: a single direction",
    cost=_SVD,
    reference="Roy and Vetterli 2007, The effective rank: a measure of effective dimensionality, definition 1",
)

PER = MetricSpec(
    name="per",
    kind="single",
    fn=per,
    definition=(
        "Proportional effective rank: exp of the entropy of the normalised singular values, over their "
        "number min(N, P), zeros included. A head's circuit of rank head_dim in d x d reaches at most "
        "head_dim / d."
    ),
    range="1/min(N, P) to 1",
    best="1: every direction is used equally",
    cost=_SVD,
    reference="Diehl Martinez et al. 2024, Tending Towards Stability, Findings of EMNLP, section 3 (arXiv:2410.11451)",
    bounds=(0.0, 1.0),
)

STABLE_RANK = MetricSpec(
    name="stable_rank",
    kind="single",
    fn=stable_rank,
    definition="Squared Frobenius norm over squared spectral norm: how many directions as strong as the strongest.",
    range="1 to min(N, P)",
    best="min(N, P): all directions equally strong",
    cost=_SVD,
    reference="Rudelson and Vershynin 2007, Sampling from large matrices, section 1",
)

PARTICIPATION_RATIO = MetricSpec(
    name="participation_ratio",
    kind="single",
    fn=participation_ratio,
    definition=(
        "(Σλ)²/Σλ² of the eigenvalues of the covariance over samples (activations, mean subtracted) or of "
        "the squared singular values (weights and gradients)."
    ),
    range="1 to min(N, P)",
    best="min(N, P): variance spread evenly over all directions",
    cost=_SVD,
    reference="Gao et al. 2017, A theory of multineuronal dimensionality, dynamics and measurement, equation 3",
    params={
        "centre": Param(
            "auto",
            "subtract the mean over rows: auto (activations only), yes, no",
            choices=("auto", "yes", "no"),
        )
    },
    power=2,
)

RANKME = MetricSpec(
    name="rankme",
    kind="single",
    fn=rankme,
    definition="exp(−Σ p·ln p), p = s/Σs + ε, of the singular values of representations (samples x features).",
    range="1 to min(N, P), up to the smoothing ε",
    best="min(N, P): representations that did not collapse",
    cost=_SVD,
    reference="Garrido et al. 2023, RankMe, ICML, equations 1 and 2 (arXiv:2210.02885)",
    accepts=frozenset({"activations"}),
    params={"epsilon": Param(1e-7, "smoothing added to each share", low=0.0, high=0.1)},
)
