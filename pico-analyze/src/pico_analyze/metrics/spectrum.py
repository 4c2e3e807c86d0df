"""Metrics of the singular values: how many directions a matrix uses, and how evenly.

All read the same singular values s₁ ≥ s₂ ≥ … of an (N, P) matrix, m = min(N, P) of them, computed once per matrix, and
of those the first r, with r the numerical rank: what rounding to the stored type made is no direction
(`matrices.rounding`). From activations the mean over samples is subtracted first (`centring.py`).
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from pico_analyze.matrices.matrix import Matrix
from pico_analyze.metrics.centring import Centre, centre_param, centred
from pico_analyze.metrics.spec import MetricSpec, Result, single_metric
from pico_analyze.parameters import Param

_ZERO = "all entries are zero"

Facts = dict[str, float | str]


def _spectrum(matrix: Matrix, centre: Centre) -> tuple[np.ndarray, int, Facts] | Result:
    """The singular values above rounding, descending, how many there are with the others, and what was decided; or why
    there are none."""
    meant = centred(matrix, centre)
    if isinstance(meant, Result):
        return meant
    found = meant.numerical_rank
    if found.rank == 0:
        zero = meant.singular_values[0] == 0
        why = _ZERO if zero else f"no singular value is above the rounding of {found.stored}"
        return Result.undefined(why, **found.facts())
    return meant.singular_values[: found.rank], meant.n_singular, found.facts()


@single_metric
def condition_number(
    matrix: Matrix, *, over: Literal["rank", "all"] = "rank", centre: Literal["auto", "yes", "no"] = "auto"
) -> Result:
    """Largest over smallest singular value.

    Args:
        matrix: (N, P) array or `Matrix`. A plain array is taken as weights or gradients; give activations as
            `activations(matrix)`, or set centre.
        over: rank: s₁/s_r with r the numerical rank, which is finite; all: s₁/s_m over all m = min(N, P), infinite
            where r < m.
        centre: Whether the mean over rows is subtracted: auto (from activations only), yes, no.

    Returns:
        1 to infinity; 1 where all directions are stretched alike. Undefined (NaN) for the zero matrix, and where
        nothing varies. `extra`: full, the value over all; rank, tolerance and stored (r, the largest singular value
        that counts as rounding, the type that decides it).

    Raises:
        UsageError: a parameter that does not exist or a value that it does not take.
        DataError: not a matrix of real numbers.

    References:
        Golub and Van Loan 2013, Matrix Computations (4th ed.), equation 2.6.5.
    """
    found = _spectrum(matrix, centre)
    if isinstance(found, Result):
        return found
    values, m, facts = found
    over_rank = float(values[0] / values[-1])
    full = over_rank if len(values) == m else math.inf
    return Result(full if over == "all" else over_rank, extra={**facts, "full": full})


def _entropy(shares: np.ndarray) -> float:
    positive = shares[shares > 0]
    return float(-np.sum(positive * np.log(positive)))


@single_metric
def effective_rank(matrix: Matrix, *, centre: Literal["auto", "yes", "no"] = "auto") -> Result:
    """exp of the Shannon entropy (natural logarithm) of the singular values divided by their sum.

    Over those above rounding: what bfloat16 did to a matrix of few directions is no direction of its own.

    Args:
        matrix: (N, P) array or `Matrix`. A plain array is taken as weights or gradients; give activations as
            `activations(matrix)`, or set centre.
        centre: Whether the mean over rows is subtracted: auto (from activations only), yes, no.

    Returns:
        1 to m = min(N, P); m where all directions are used equally, 1 for a single direction. Undefined (NaN) for the
        zero matrix, and where nothing varies. `extra`: rank, tolerance and stored (numerical rank, the largest singular
        value that counts as rounding, the type that decides it).

    Raises:
        UsageError: a parameter that does not exist or a value that it does not take.
        DataError: not a matrix of real numbers.

    References:
        Roy and Vetterli 2007, The Effective Rank: A Measure of Effective Dimensionality, EUSIPCO, definition 1.
    """
    found = _spectrum(matrix, centre)
    if isinstance(found, Result):
        return found
    values, _, facts = found
    return Result(math.exp(_entropy(values / values.sum())), extra=facts)


@single_metric
def per(matrix: Matrix, *, centre: Literal["auto", "yes", "no"] = "auto") -> Result:
    """Proportional effective rank: the effective rank over m = min(N, P).

    m counts the zero singular values too, so a head's d × d circuit has at most head_dim / d.

    Args:
        matrix: (N, P) array or `Matrix`. A plain array is taken as weights or gradients; give activations as
            `activations(matrix)`, or set centre.
        centre: Whether the mean over rows is subtracted: auto (from activations only), yes, no.

    Returns:
        1/m to 1; 1 where every direction is used equally. Undefined (NaN) for the zero matrix, and where nothing
        varies. `extra`: effective_rank; rank, tolerance and stored (numerical rank, the largest singular value that
        counts as rounding, the type that decides it).

    Raises:
        UsageError: a parameter that does not exist or a value that it does not take.
        DataError: not a matrix of real numbers.

    References:
        Diehl Martinez et al. 2024, Tending Towards Stability, Findings of EMNLP, section 3 (arXiv:2410.11451).
    """
    found = _spectrum(matrix, centre)
    if isinstance(found, Result):
        return found
    values, m, facts = found
    rank = math.exp(_entropy(values / values.sum()))
    return Result(rank / m, extra={"effective_rank": rank, **facts})


@single_metric
def stable_rank(matrix: Matrix, *, centre: Literal["auto", "yes", "no"] = "auto") -> Result:
    """Squared Frobenius norm over squared spectral norm, Σs²/s₁²: how many directions are as strong as the strongest.

    Args:
        matrix: (N, P) array or `Matrix`. A plain array is taken as weights or gradients; give activations as
            `activations(matrix)`, or set centre.
        centre: Whether the mean over rows is subtracted: auto (from activations only), yes, no.

    Returns:
        1 to m = min(N, P); m where all directions are equally strong. Undefined (NaN) for the zero matrix,
        and where nothing varies. `extra`: rank, tolerance and stored (numerical rank, the largest singular value that
        counts as rounding, the type that decides it).

    Raises:
        UsageError: a parameter that does not exist or a value that it does not take.
        DataError: not a matrix of real numbers.

    References:
        Rudelson and Vershynin 2007, Sampling from Large Matrices, J. ACM 54, section 1.
    """
    found = _spectrum(matrix, centre)
    if isinstance(found, Result):
        return found
    values, _, facts = found
    return Result(float(np.sum((values / values[0]) ** 2)), extra=facts)


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
        `extra`: rank, tolerance and stored (numerical rank, the largest singular value that counts as rounding, the
        type that decides it).

    Raises:
        UsageError: a parameter that does not exist or a value that it does not take.
        DataError: not a matrix of real numbers.

    References:
        Gao et al. 2017, A Theory of Multineuronal Dimensionality, Dynamics and Measurement, equation 3.
    """
    found = _spectrum(matrix, centre)
    if isinstance(found, Result):
        return found
    values, _, facts = found
    shares = (values / values[0]) ** 2
    return Result(float(shares.sum() ** 2 / np.sum(shares**2)), extra=facts)


@single_metric
def rankme(matrix: Matrix, *, epsilon: float = 1e-7, centre: Literal["auto", "yes", "no"] = "no") -> Result:
    """exp(−Σ p·ln p) with p = s/Σs + ε over all m singular values of representations.

    An effective rank of representations, neither centred nor normalised, whose smoothing ε is part of the published
    definition: 1e-7, for float32. Singular values of rounding are taken for zero, so that in coarser types too ε alone
    stands for them. The shares with ε are not divided by their sum, as published.

    Args:
        matrix: (N, P) activations: N samples (rows) of P features; an array or a `Matrix`.
        epsilon: Smoothing added to each share, 0 to 0.1.
        centre: Whether the mean over samples is subtracted: no (as published), yes, auto (from activations).

    Returns:
        1 to m = min(N, P), up to ε; m for representations that did not collapse. Undefined (NaN) for the zero
        matrix. `extra`: rank, tolerance and stored (numerical rank, the largest singular value that counts as rounding,
        the type that decides it).

    Raises:
        UsageError: a parameter that does not exist or a value that it does not take.
        DataError: not a matrix of real numbers.

    References:
        Garrido, Balestriero, Najman and LeCun 2023, RankMe, ICML, equations 1 and 2 (arXiv:2210.02885).
    """
    found = _spectrum(matrix, centre)
    if isinstance(found, Result):
        return found
    values, m, facts = found
    shares = np.pad(values / values.sum(), (0, m - len(values)))
    return Result(math.exp(_entropy(shares + epsilon)), extra=facts)


_SVD = "one SVD, shared by all spectral metrics: O(N·P·min(N, P)), or O((N + P)·R²) for a circuit of rank R"

CONDITION_NUMBER = MetricSpec(
    name="condition_number",
    kind="single",
    fn=condition_number,
    definition=(
        "Largest over smallest singular value, over the numerical rank (singular values above the rounding of the type "
        "the data was stored in); the rank stands beside it, and `full`, the value over all min(N, P) singular values: "
        "infinite when the rank is less. Activations are centred over samples first (centre=auto)."
    ),
    formula=r"\frac{s_1}{s_r}",
    range="1 to infinity",
    best="1: all directions are stretched alike",
    cost=_SVD,
    reference="Golub and Van Loan 2013, Matrix Computations (4th ed.), equation 2.6.5",
    params={
        "over": Param("rank", "rank: over the numerical rank; all: over every singular value", choices=("rank", "all")),
        "centre": centre_param(),
    },
    axis="log",
    revision=1,
    power=2,
)

EFFECTIVE_RANK = MetricSpec(
    name="effective_rank",
    kind="single",
    fn=effective_rank,
    definition=(
        "exp of the Shannon entropy (natural logarithm) of the singular values divided by their sum, over those above "
        "the rounding of the type the data was stored in. Activations are centred over samples first (centre=auto)."
    ),
    formula=r"\exp\Bigl(-\sum_{i=1}^{r} p_i \ln p_i\Bigr), \qquad p_i = \frac{s_i}{\sum_{j=1}^{r} s_j}",
    range="1 to min(N, P)",
    best="min(N, P): all directions are used equally; 1: a single direction",
    cost=_SVD,
    reference="Roy and Vetterli 2007, The effective rank: a measure of effective dimensionality, definition 1",
    params={"centre": centre_param()},
    revision=1,
    power=2,
)

PER = MetricSpec(
    name="per",
    kind="single",
    fn=per,
    definition=(
        "Proportional effective rank: exp of the entropy of the normalised singular values, over their "
        "number min(N, P), zeros included. A head's circuit of rank head_dim in d x d reaches at most "
        "head_dim / d. Singular values of rounding count as zero; activations are centred over samples first "
        "(centre=auto)."
    ),
    formula=(r"\frac{1}{m} \exp\Bigl(-\sum_{i=1}^{r} p_i \ln p_i\Bigr), \qquad p_i = \frac{s_i}{\sum_{j=1}^{r} s_j}"),
    range="1/min(N, P) to 1",
    best="1: every direction is used equally",
    cost=_SVD,
    reference="Diehl Martinez et al. 2024, Tending Towards Stability, Findings of EMNLP, section 3 (arXiv:2410.11451)",
    params={"centre": centre_param()},
    bounds=(0.0, 1.0),
    revision=1,
    power=2,
)

STABLE_RANK = MetricSpec(
    name="stable_rank",
    kind="single",
    fn=stable_rank,
    definition=(
        "Squared Frobenius norm over squared spectral norm: how many directions are as strong as the strongest. "
        "Activations are centred over samples first (centre=auto)."
    ),
    formula=r"\frac{\|X\|_F^2}{\|X\|_2^2} = \frac{\sum_i s_i^2}{s_1^2}",
    range="1 to min(N, P)",
    best="min(N, P): all directions equally strong",
    cost=_SVD,
    reference="Rudelson and Vershynin 2007, Sampling from large matrices, section 1",
    params={"centre": centre_param()},
    revision=1,
    power=2,
)

PARTICIPATION_RATIO = MetricSpec(
    name="participation_ratio",
    kind="single",
    fn=participation_ratio,
    definition=(
        "(Σλ)²/Σλ² of the eigenvalues of the covariance over samples (activations, mean subtracted) or of "
        "the squared singular values (weights and gradients)."
    ),
    formula=r"\frac{\bigl(\sum_i \lambda_i\bigr)^2}{\sum_i \lambda_i^2}, \qquad \lambda_i = s_i^2",
    range="1 to min(N, P)",
    best="min(N, P): variance spread evenly over all directions",
    cost=_SVD,
    reference="Gao et al. 2017, A theory of multineuronal dimensionality, dynamics and measurement, equation 3",
    params={"centre": centre_param()},
    revision=1,
    power=2,
)

RANKME = MetricSpec(
    name="rankme",
    kind="single",
    fn=rankme,
    definition=(
        "exp(−Σ p·ln p), p = s/Σs + ε over all min(N, P) singular values of representations (samples x features), as "
        "published: neither centred nor normalised. Singular values of rounding count as zero."
    ),
    formula=(r"\exp\Bigl(-\sum_{i=1}^{m} p_i \ln p_i\Bigr), \qquad p_i = \frac{s_i}{\sum_{j=1}^{m} s_j} + \varepsilon"),
    range="1 to min(N, P), up to the smoothing ε",
    best="min(N, P): representations that did not collapse",
    cost=_SVD,
    reference="Garrido et al. 2023, RankMe, ICML, equations 1 and 2 (arXiv:2210.02885)",
    accepts=frozenset({"activations"}),
    params={
        "epsilon": Param(1e-7, "smoothing added to each share", low=0.0, high=0.1),
        "centre": centre_param("no"),
    },
    revision=1,
    power=2,
)
