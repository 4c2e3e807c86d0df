"""Canonical correlations: which directions of two representations of the same samples agree, up to any linear map.

Each representation is reduced to an orthonormal basis of its principal subspace by one SVD, truncated by
explained variance; the canonical correlations are then the singular values of the product of the two bases
(Björck & Golub 1973). There is no covariance to invert, so nothing fails to converge. How many directions samples are
enough for is counted in different ones: where a row is there twice, what fits the first fits the second.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from pico_analyze.counting import counted
from pico_analyze.matrices.decompositions import thin_svd
from pico_analyze.matrices.distinct import n_distinct_samples
from pico_analyze.matrices.matrix import Matrix
from pico_analyze.matrices.rounding import NumericalRank
from pico_analyze.metrics.projection_weights import projection_weighted
from pico_analyze.metrics.resampling import as_a_correlation
from pico_analyze.metrics.spec import MetricSpec, Result, pair_metric
from pico_analyze.parameters import Param

Facts = dict[str, float | str]
"""What stands beside a value."""


def principal_basis(x: Matrix, variance: float) -> np.ndarray:
    """Orthonormal basis (N, K) of the fewest principal directions of a centred matrix with that share of its
    variance.

    Directions below the numerical rank are never in it; variance=1 keeps all others.
    """
    return _principal(x, variance)[0]


def _principal(x: Matrix, variance: float) -> tuple[np.ndarray, NumericalRank]:
    """The basis, and the numerical rank that bounds it."""
    u, s, _ = thin_svd(x.reduced())
    found = x.rank_of(s)
    s = s[: found.rank]
    if variance < 1.0:
        share = np.cumsum(s**2) / np.sum(s**2)
        s = s[: int(np.searchsorted(share, variance)) + 1]
    return u[:, : len(s)], found


def _correlations(x: Matrix, y: Matrix, variance: float) -> tuple[np.ndarray, np.ndarray, Facts] | Result:
    """Canonical correlations (descending), the canonical variates of x (N, min(K, K′)), facts; or why not."""
    n = x.shape[0]
    facts: Facts = {"n": float(n), "d": float(x.feature_dim), "d_target": float(y.feature_dim)}
    if n < 2:
        return Result.undefined("one sample has no variance", **facts)
    for matrix, which in ((x, "first"), (y, "second")):
        if not matrix.varies():
            return Result.undefined(f"the {which} representation does not vary over the samples", **facts)
    first, rank = _principal(x.centred(), variance)
    second, rank_target = _principal(y.centred(), variance)
    distinct = n_distinct_samples(x, y)
    facts |= {"k": float(first.shape[1]), "k_target": float(second.shape[1]), "n_distinct": float(distinct)}
    facts |= rank.facts() | rank_target.facts("_target")
    if max(first.shape[1], second.shape[1]) >= distinct - 1:
        samples = counted(n, "sample")
        different = samples if distinct == n else f"{samples}, of which {distinct} differ,"
        reason = (
            f"{different} are too few for {counted(max(first.shape[1], second.shape[1]), 'direction')}: any two "
            "representations would correlate perfectly"
        )
        return Result.undefined(reason, **facts)
    u, correlations, _ = thin_svd(first.T @ second)
    return np.minimum(correlations, 1.0), first @ u, facts


def _mean(x: Matrix, y: Matrix, variance: float) -> Result:
    found = _correlations(x, y, variance)
    if isinstance(found, Result):
        return found
    correlations, _, facts = found
    return Result(float(correlations.mean()), extra=facts, warning=_warning(facts))


def _warning(facts: Facts) -> str | None:
    n, k, k_target = (int(facts[name]) for name in ("n_distinct", "k", "k_target"))
    if k + k_target <= n - 1:
        return None
    return (
        "canonical correlations of k and k_target directions on fewer different samples than k + k_target: some are 1 "
        "by chance alone"
    )


@pair_metric
def mean_cca(x: Matrix, y: Matrix, *, variance: float = 1.0) -> Result:
    """Mean canonical correlation ρ̄ of two representations of the same samples.

    The mean runs over the min(k, k_target) correlations of the directions that are kept on each side.

    Args:
        x: (N, P) activations: N samples (rows) of P features; an array or a `Matrix`. Their mean over samples is
            subtracted here.
        y: (N, P′) activations of the same samples in the same order; P′ may differ from P.
        variance: Share of each side's variance that the kept directions carry, 0.01 to 1; 1 keeps all up to the
            numerical rank.

    Returns:
        0 to 1; 1 where one is a linear map of the other. Undefined (NaN) when a representation does not vary over
        the samples, and for M − 1 ≤ max(k, k_target) with M the number of different samples, where every value is
        1; doubtful, with a warning, for k + k_target > M − 1. `extra`: n, d and d_target (dimensions that the features
        span), k and k_target (directions kept), n_distinct (M); rank, tolerance and stored (numerical rank of the
        centred matrix, the largest singular value that counts as rounding, the type that decides it), and the same of
        the target.

    Raises:
        UsageError: different numbers of rows, or a parameter or value that does not exist.
        DataError: not matrices of real numbers.

    References:
        Kornblith et al. 2019, Similarity of Neural Network Representations Revisited, ICML, equation 8; computed as in
        Björck and Golub 1973, Numerical Methods for Computing Angles Between Linear Subspaces, Math. Comp. 27,
        section 4.
    """
    return _mean(x, y, variance)


@pair_metric
def svcca(x: Matrix, y: Matrix, *, variance: float = 0.99) -> Result:
    """Mean canonical correlation of the principal subspaces that carry most of each side's variance.

    Args:
        x: (N, P) activations: N samples (rows) of P features; an array or a `Matrix`. Their mean over samples is
            subtracted here.
        y: (N, P′) activations of the same samples in the same order; P′ may differ from P.
        variance: Share of each side's variance that its kept directions carry, 0.01 to 1.

    Returns:
        0 to 1; 1 where the principal subspaces agree. Undefined (NaN) when a representation does not vary over
        the samples, and for M − 1 ≤ max(k, k_target) with M the number of different samples, where every value is
        1; doubtful, with a warning, for k + k_target > M − 1. `extra`: n, d and d_target (dimensions that the features
        span), k and k_target (directions kept), n_distinct (M); rank, tolerance and stored (numerical rank of the
        centred matrix, the largest singular value that counts as rounding, the type that decides it), and the same of
        the target.

    Raises:
        UsageError: different numbers of rows, or a parameter or value that does not exist.
        DataError: not matrices of real numbers.

    References:
        Raghu, Gilmer, Yosinski and Sohl-Dickstein 2017, SVCCA, NeurIPS, section 2.1 (arXiv:1706.05806).
    """
    return _mean(x, y, variance)


@pair_metric
def pwcca(
    x: Matrix, y: Matrix, *, variance: float = 0.999, variant: Literal["paper", "svcca", "pico1"] = "paper"
) -> Result:
    """Canonical correlations, each weighted by how much of a representation it accounts for. Not symmetric.

    Σ α·ρ / Σ α. With variant `paper` αᵢ = Σⱼ |⟨hᵢ, xⱼ⟩| over the centred columns xⱼ of the first matrix and its
    canonical variates hᵢ. With `svcca` as google/svcca's code has it, which differs: the side of fewer features weighs
    (the first of equals), by directions that are not whitened and have the means of columns added, and by columns that
    are not centred; no direction is cut off. With `pico1` as pico-analyze 1.0 had it: that code, with 10⁻⁶ of the
    largest covariance added to the variances, for a first side that is not the wider one (there 1.0 failed).

    Args:
        x: (N, P) activations: N samples (rows) of P features; an array or a `Matrix`. Their mean over samples is
            subtracted here.
        y: (N, P′) activations of the same samples in the same order; P′ may differ from P.
        variance: paper: share of each side's variance that its kept directions carry, 0.01 to 1: directions of noise
            are cut off before. With 1 it is the published form.
        variant: paper, svcca or pico1.

    Returns:
        0 to 1; 1 where the first is a linear map of the second. Undefined (NaN) when a representation does not vary
        over the samples, and for M − 1 ≤ max(k, k_target) with M the number of different samples, where every value is
        1; doubtful, with a warning, for k + k_target > M − 1. svcca and pico1 also need more samples than features, and
        are doubtful, with a warning, where a side has a rank below its width. `extra`: n, d and d_target (dimensions
        that the features span), k and k_target (directions kept), n_distinct (M); rank, tolerance and stored (numerical
        rank of the centred matrix, the largest singular value that counts as rounding, the type that decides it), and
        the same of the target.

    Raises:
        UsageError: different numbers of rows, or a parameter or value that does not exist.
        DataError: not matrices of real numbers.

    References:
        Morcos, Raghu and Bengio 2018, Insights on Representational Similarity in Neural Networks, NeurIPS, equations 3
        and 4; svcca: github.com/google/svcca, pwcca.py.
    """
    found = _correlations(x, y, variance if variant == "paper" else 1.0)
    if isinstance(found, Result):
        return found
    correlations, variates, facts = found
    if variant != "paper":
        return _as_code(x, y, variant, facts)
    rows = np.ascontiguousarray(variates.T)
    weights = sum(np.abs(block).sum(axis=1) for block in x.centred().left_product(rows))
    return Result(min(1.0, float(weights @ correlations / np.sum(weights))), extra=facts, warning=_warning(facts))


def _as_code(x: Matrix, y: Matrix, variant: str, facts: Facts) -> Result:
    """PWCCA of google/svcca's code, and of pico-analyze 1.0's."""
    n, widths = x.shape[0], (x.shape[1], y.shape[1])
    if max(widths) >= n:
        return Result.undefined(
            f"variant {variant} needs more samples than features, not {n} of {max(widths)}", **facts
        )
    if variant == "pico1" and widths[0] > widths[1]:
        return Result.undefined("pico-analyze 1.0 had no value where the first side has more features", **facts)
    sides = (np.asarray(side.dense(), np.float64) for side in (x, y))
    value = projection_weighted(*sides, epsilon=_EPSILON_1_0 if variant == "pico1" else 0.0)
    if value is None:
        return Result.undefined(f"variant {variant} has no value where features depend on one another", **facts)
    full = (facts["rank"], facts["rank_target"]) == widths
    return Result(value, extra=facts, warning=_warning(facts) if full else _ROUNDING_COUNTS)


_EPSILON_1_0 = 1e-6
"""What pico-analyze 1.0 added to the variances."""
_ROUNDING_COUNTS = (
    "features depend on one another up to rounding, and variants svcca and pico1 of pwcca count directions of rounding "
    "as others: read variant=paper"
)
_COST = "one SVD of each side, O(N·R²) with R the width, or the rank of a circuit"
_VARIANCE = "share of each side's variance that the kept directions carry; 1: all up to the numerical rank"

MEAN_CCA = MetricSpec(
    name="mean_cca",
    kind="pair",
    fn=mean_cca,
    definition="Mean of the canonical correlations of two representations of the same samples. Widths may differ.",
    formula=r"\frac{1}{\min(k, k')} \sum_{i=1}^{\min(k, k')} \rho_i",
    range="0 to 1",
    best="1: one is a linear map of the other",
    cost=_COST,
    reference="Kornblith et al. 2019, equation 8; computed as Björck and Golub 1973, Math. Comp. 27, section 4",
    accepts=frozenset({"activations"}),
    params={"variance": Param(1.0, _VARIANCE, low=0.01, high=1.0)},
    similar="high",
    resampling=as_a_correlation,
    bounds=(0.0, 1.0),
    revision=1,
    power=2,
)

SVCCA = MetricSpec(
    name="svcca",
    kind="pair",
    fn=svcca,
    definition=(
        "Mean canonical correlation of the principal subspaces that carry 99 % of each side's variance. "
        "Widths may differ."
    ),
    formula=(
        r"\frac{1}{\min(k, k')} \sum_{i=1}^{\min(k, k')} \rho_i, \qquad "
        r"k = \min\Bigl\{\, l : \sum_{i=1}^{l} s_i^2 \ge 0.99 \sum_i s_i^2 \,\Bigr\}"
    ),
    range="0 to 1",
    best="1: the principal subspaces agree",
    cost=_COST,
    reference="Raghu et al. 2017, SVCCA, NeurIPS, section 2.1 (arXiv:1706.05806)",
    accepts=frozenset({"activations"}),
    params={"variance": Param(0.99, _VARIANCE, low=0.01, high=1.0)},
    similar="high",
    resampling=as_a_correlation,
    bounds=(0.0, 1.0),
    revision=1,
    power=2,
)

PWCCA = MetricSpec(
    name="pwcca",
    kind="pair",
    fn=pwcca,
    definition=(
        "Canonical correlations, each weighted by how much of the first representation, centred, it accounts for; "
        "noise directions are cut off by explained variance first. Widths may differ; not symmetric. variant=svcca: as "
        "google/svcca's code has it (the side of fewer features weighs, by directions that are not whitened, with "
        "means, and by columns that are not centred); variant=pico1: as pico-analyze 1.0 had it, with 1e-6 of the "
        "largest covariance added to the variances."
    ),
    formula=(
        r"\frac{\sum_i \alpha_i \rho_i}{\sum_i \alpha_i}, \qquad \alpha_i = \sum_{j=1}^{P} |\langle h_i, x_j \rangle|"
    ),
    range="0 to 1",
    best="1: one is a linear map of the other",
    cost=_COST + ", and one product with the columns of the first",
    reference=(
        "Morcos et al. 2018, Insights on representational similarity, NeurIPS, equations 3 and 4; svcca: "
        "github.com/google/svcca, pwcca.py"
    ),
    accepts=frozenset({"activations"}),
    params={
        "variance": Param(0.999, f"variant=paper: {_VARIANCE}", low=0.01, high=1.0),
        "variant": Param(
            "paper",
            "paper: Morcos et al.; svcca: google/svcca's code; pico1: pico-analyze 1.0's use of it",
            choices=("paper", "svcca", "pico1"),
        ),
    },
    similar="high",
    resampling=as_a_correlation,
    bounds=(0.0, 1.0),
    revision=2,
    power=2,
)
