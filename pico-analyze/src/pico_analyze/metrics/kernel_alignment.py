"""Centred kernel alignment: how alike two representations of the same samples are, up to rotation and scale.

Linear CKA needs a matrix only through its sample Gram matrix K = X·Xᵀ = A·G·Aᵀ, with A (N, R) thin and G (R,
R) small for a circuit; then Σᵢⱼ Kᵢⱼ·Lᵢⱼ follows from the (R, R′) cross product AᵀB and no N × N or P × P
matrix is formed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal

import numpy as np

from pico_analyze.counting import counted
from pico_analyze.errors import UsageError
from pico_analyze.matrices.distinct import n_distinct_samples
from pico_analyze.matrices.matrix import Matrix
from pico_analyze.metrics.alignment_of_subsets import linear_cka_of_subsets
from pico_analyze.metrics.resampling import Resampling
from pico_analyze.metrics.spec import MetricSpec, Result, pair_metric
from pico_analyze.parameters import Param, ParamValue

_FEWEST, _FEWEST_DEBIASED = 3, 4
"""Of two samples, what is left once their mean is subtracted points the same way in both: any two are alike."""
_SHUFFLE = 0
"""Seed of the order in which samples are cut into batches: the same for every pair with as many."""
# The same text for every row, so that it is said once per study; n and d stand in the row.
_TOO_FEW = "biased CKA is too high on few samples (n < 5d: n samples, d dimensions): read the debiased value beside it"
_TOO_FEW_REPEATED = "biased CKA is too high on few different samples (n_distinct < 5d), and so is the debiased one"
_REPEATED = "samples repeat, and the debiased estimate takes each for a new one: it is too high (n_distinct < 5d)"


@dataclass(frozen=True)
class _Alignment:
    """Inner products of two centred kernels: of each other, and of each with itself."""

    xy: float
    xx: float
    yy: float

    def value(self) -> float:
        """xy / √(xx·yy), NaN when a self-similarity estimate is not positive."""
        if self.xx <= 0 or self.yy <= 0:
            return math.nan
        return self.xy / math.sqrt(self.xx) / math.sqrt(self.yy)


def linear_hsic(x: Matrix, y: Matrix) -> float:
    """Σᵢⱼ Kᵢⱼ·Lᵢⱼ of the linear kernels of two matrices (already centred) with the same N rows: ‖XᵀY‖²."""
    a, g = x.sample_form()
    b, h = y.sample_form()
    n, r, q = a.shape[0], a.shape[1], b.shape[1]
    if n * (r + q) < r * q:  # wider than there are samples: the N x N kernels are smaller than the cross product
        return float(np.vdot(x.sample_gram(), y.sample_gram()))
    cross = x.sample_covariance() if y is x else a.T @ b
    left = cross if g is None else g @ cross
    right = cross if h is None else cross @ h
    return float(np.vdot(left, right))


def _diagonal(x: Matrix) -> np.ndarray:
    def compute() -> np.ndarray:
        a, g = x.sample_form()
        return np.asarray(np.einsum("nr,nr->n", a if g is None else a @ g, a))

    return x.memo("sample_gram_diagonal", compute)


def _debias(inner: float, k: np.ndarray, h: np.ndarray) -> float:
    """Unbiased HSIC, times N(N−3), from the biased inner product and the diagonals of the two centred kernels."""
    n = len(k)
    return inner - n / (n - 2) * float(k @ h) + float(k.sum()) * float(h.sum()) / ((n - 1) * (n - 2))


def _linear_biased(x: Matrix, y: Matrix) -> _Alignment:
    """Linear HSIC terms of two centred matrices; that of a matrix with itself is kept with it."""
    xx = x.memo("self_hsic", lambda: linear_hsic(x, x))
    yy = xx if y is x else y.memo("self_hsic", lambda: linear_hsic(y, y))
    return _Alignment(xx if y is x else linear_hsic(x, y), xx, yy)


def _linear_debiased(x: Matrix, y: Matrix, biased: _Alignment) -> _Alignment:
    k, h = _diagonal(x), _diagonal(y)
    return _Alignment(_debias(biased.xy, k, h), _debias(biased.xx, k, k), _debias(biased.yy, h, h))


def rbf_kernel(x: Matrix, bandwidth: float) -> np.ndarray | None:
    """exp(−d²/2σ²) (N, N) with σ² = bandwidth² · median of d² over pairs of samples; None when that median is 0."""
    gram = x.sample_gram()
    squares = np.diag(gram).copy()
    distances = squares[:, None] + squares[None, :] - 2.0 * gram
    np.maximum(distances, 0.0, out=distances)
    n = len(squares)
    median = float(np.median(distances[np.triu_indices(n, 1)]))
    # Squared distances come from a difference: below this share of the largest they are rounding.
    if median <= 1e-14 * float(squares.max()):
        return None
    return np.exp(distances / (-2.0 * bandwidth**2 * median))


def _kernel_alignment(k: np.ndarray, h: np.ndarray, debiased: bool) -> _Alignment:
    centre = _u_centred if debiased else _doubly_centred
    k, h = centre(k), centre(h)
    return _Alignment(float(np.vdot(k, h)), float(np.vdot(k, k)), float(np.vdot(h, h)))


def _doubly_centred(kernel: np.ndarray) -> np.ndarray:
    means = kernel.mean(axis=0)
    return np.asarray(kernel - means[:, None] - means[None, :] + means.mean())


def _u_centred(kernel: np.ndarray) -> np.ndarray:
    """Centring for the unbiased estimator, zero diagonal: Székely & Rizzo 2014, definition 2."""
    n = len(kernel)
    hollow = kernel.copy()
    np.fill_diagonal(hollow, 0.0)
    sums = hollow.sum(axis=0)
    hollow -= sums[:, None] / (n - 2)
    hollow -= sums[None, :] / (n - 2)
    hollow += sums.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(hollow, 0.0)
    return hollow


@pair_metric
def cka(
    x: Matrix,
    y: Matrix,
    *,
    debiased: bool = False,
    kernel: Literal["linear", "rbf"] = "linear",
    bandwidth: float = 1.0,
    batch: int = 0,
) -> Result:
    """Centred kernel alignment: how alike two representations of the same samples are, up to rotation and scale.

    HSIC(K, L) / √(HSIC(K, K)·HSIC(L, L)) of the centred kernels K and L; ‖XᵀY‖²/(‖XᵀX‖·‖YᵀY‖) for the linear one.

    Args:
        x: (N, P) activations: N samples (rows) of P features; an array or a `Matrix`. Their mean over samples is
            subtracted here.
        y: (N, P′) activations of the same samples in the same order; P′ may differ from P.
        debiased: Use the unbiased HSIC, which is about 0 for independent data also where samples are few.
        kernel: linear, or rbf (Gaussian).
        bandwidth: rbf: its σ as a multiple of the median distance of two samples (the root of the median square),
            0.001 to 1000.
        batch: Rows per batch of the minibatch form (at least 4), the unbiased HSIC averaged over batches that are drawn
            at random, the same ones for all matrices of as many rows; 0 for all rows at once.

    Returns:
        0 to 1; 1 for the same representation up to rotation, scale and shift. Debiased it can be negative. Undefined
        (NaN) for fewer than 3 different samples (debiased: 4), for a representation that does not vary over the
        samples, or (debiased) a self-similarity estimate that is not positive. `extra`: n, d and d_target (dimensions
        that the features span), n_distinct where samples repeat; and where there are fewer different samples than
        5·max(d, d_target), a warning: linear and biased, with `debiased` beside the value; debiased, where they repeat.

    Raises:
        UsageError: different numbers of rows, or a parameter or value that does not exist (a batch of 1 to 3 rows too).
        DataError: not matrices of real numbers.

    References:
        Kornblith, Norouzi, Lee and Hinton 2019, Similarity of Neural Network Representations Revisited, ICML,
        equations 4 and 5; debiased: Song et al. 2012, Feature Selection via Dependence Maximization, JMLR 13,
        equation 5; batch: Nguyen, Raghu and Kornblith 2021, Do Wide and Deep Networks Learn the Same Things?, ICLR,
        equation 2.
    """
    n = x.shape[0]
    d, d_target = x.feature_dim, y.feature_dim
    facts = {"n": float(n), "d": float(d), "d_target": float(d_target)}
    if 0 < batch < _FEWEST_DEBIASED:
        raise UsageError(
            f"metric 'cka': batch={batch} is below {_FEWEST_DEBIASED}, the fewest rows an unbiased estimate needs"
        )
    fewest = _FEWEST_DEBIASED if debiased or batch else _FEWEST
    if n < fewest:
        return Result.undefined(f"{counted(n, 'sample is', 'samples are')} too few: this needs {fewest}", **facts)
    for matrix, which in ((x, "first"), (y, "second")):
        if not matrix.varies():
            return Result.undefined(f"the {which} representation does not vary over the samples", **facts)
    enough = 5 * max(d, d_target)
    distinct = n_distinct_samples(x, y)
    facts |= {"n_distinct": float(distinct)} if distinct < n else {}
    if distinct < fewest:
        different = counted(distinct, "different sample is", "different samples are")
        return Result.undefined(f"{different} too few: this needs {fewest}", **facts)
    if debiased or batch:
        result = _debiased(x, y, kernel, bandwidth, batch, facts)
        doubtful = _REPEATED if distinct < min(n, enough) and result.reason is None else None
        return Result(result.value, result.reason, result.extra, doubtful)
    if kernel == "rbf":
        return _rbf(x, y, bandwidth, False, facts)
    x, y = x.centred(), y.centred()
    biased = _linear_biased(x, y)
    if distinct >= enough:
        return Result(_bounded(biased.value()), extra=facts)
    facts["debiased"] = _linear_debiased(x, y, biased).value() if n >= _FEWEST_DEBIASED else math.nan
    return Result(_bounded(biased.value()), extra=facts, warning=_TOO_FEW if distinct == n else _TOO_FEW_REPEATED)


def _debiased(x: Matrix, y: Matrix, kernel: str, bandwidth: float, batch: int, facts: dict[str, float]) -> Result:
    if batch:
        return _in_batches(x, y, kernel, bandwidth, batch, facts)
    if kernel == "rbf":
        return _rbf(x, y, bandwidth, True, facts)
    x, y = x.centred(), y.centred()
    return _finish(_linear_debiased(x, y, _linear_biased(x, y)), True, facts)


def _rbf(x: Matrix, y: Matrix, bandwidth: float, debiased: bool, facts: dict[str, float]) -> Result:
    k, h = rbf_kernel(x, bandwidth), rbf_kernel(y, bandwidth)
    if k is None or h is None:
        return Result.undefined("more than half of the samples are equal: the rbf kernel has no scale", **facts)
    return _finish(_kernel_alignment(k, h, debiased), debiased, facts)


def _bounded(value: float) -> float:
    """Biased CKA lies in [0, 1]; rounding may leave it by an ulp or two."""
    return min(1.0, max(0.0, value))


def _finish(alignment: _Alignment, debiased: bool, facts: dict[str, float]) -> Result:
    value = alignment.value()
    if math.isnan(value):
        return Result.undefined("the estimated self-similarity is not positive: too few samples for this data", **facts)
    return Result(value if debiased else _bounded(value), extra=facts)


def _in_batches(x: Matrix, y: Matrix, kernel: str, bandwidth: float, batch: int, facts: dict[str, float]) -> Result:
    stream = StreamingCKA(kernel=kernel, bandwidth=bandwidth)
    n = x.shape[0]
    edges = list(range(0, n, batch))
    if n - edges[-1] < _FEWEST_DEBIASED:
        edges.pop()  # the last few rows join the batch before them, and n is at least as many
    # Neighbours in order are positions of one row, which are alike: a batch of them is not a sample of all.
    order = np.random.default_rng([_SHUFFLE, n]).permutation(n)
    for start, stop in pairwise([*edges, n]):
        rows = np.sort(order[start:stop])
        stream.update(x.take(rows), y.take(rows))
    result = stream.result()
    return Result(result.value, result.reason, {**facts, **result.extra})


class StreamingCKA:
    """Minibatch CKA: batches of rows come in one by one, and memory does not grow with their number.

    Each batch (≥ 4 rows) adds its unbiased HSIC terms; CKA is the ratio of their averages, which estimates
    the debiased CKA of all rows (Nguyen et al. 2021, Do Wide and Deep Networks Learn the Same Things?,
    equation 2).
    """

    def __init__(self, kernel: str = "linear", bandwidth: float = 1.0):
        self.kernel = kernel
        self.bandwidth = bandwidth
        self.n_rows = 0
        self.n_batches = 0
        self._sums = np.zeros(3)

    def update(self, x: Matrix, y: Matrix) -> None:
        """Add one batch: matrices (n, P) and (n, P′) of the same n ≥ 4 samples.

        Raises:
            ValueError: fewer than four rows, or not the same number in both.
        """
        n = x.shape[0]
        if n != y.shape[0] or n < _FEWEST_DEBIASED:
            raise ValueError(f"a batch needs the same {_FEWEST_DEBIASED} or more rows twice, not {n} and {y.shape[0]}")
        if self.kernel == "rbf":
            k, h = rbf_kernel(x, self.bandwidth), rbf_kernel(y, self.bandwidth)
            terms = (
                _Alignment(math.nan, math.nan, math.nan) if k is None or h is None else _kernel_alignment(k, h, True)
            )
        else:
            x, y = x.centred(), y.centred()
            terms = _linear_debiased(x, y, _linear_biased(x, y))
        # HSIC of a batch of n: the sum over n(n−3); weighted by n, so that a shorter last batch counts for what it is.
        self._sums += n / (n * (n - 3)) * np.array([terms.xy, terms.xx, terms.yy])
        self.n_rows += n
        self.n_batches += 1

    def result(self) -> Result:
        """CKA of what came so far; undefined before the first batch, or when a self-similarity is not positive."""
        extra = {"n_batches": float(self.n_batches)}
        if not self.n_batches:
            return Result.undefined("no batch came", **extra)
        value = _Alignment(*map(float, self._sums)).value()
        if math.isnan(value):
            return Result.undefined("the estimated self-similarity is not positive: larger batches are needed", **extra)
        return Result(value, extra=extra)


def _resampling(params: Mapping[str, ParamValue]) -> Resampling:
    if params["kernel"] != "linear" or params["batch"]:
        return Resampling(correlation=True)
    return Resampling(correlation=True, together=partial(linear_cka_of_subsets, debiased=bool(params["debiased"])))


CKA = MetricSpec(
    name="cka",
    kind="pair",
    fn=cka,
    definition=(
        "Centred kernel alignment of two representations of the same samples: the normalised inner product "
        "of their centred kernels, ‖XᵀY‖²/(‖XᵀX‖·‖YᵀY‖) for the linear one. Invariant to rotation, scale "
        "and shift; widths may differ. debiased=true: the unbiased estimator, for few samples; batch=B: "
        "averaged over batches of B samples that are drawn at random."
    ),
    formula=r"\frac{\|X^\top Y\|_F^2}{\|X^\top X\|_F \, \|Y^\top Y\|_F}",
    range="0 to 1 (debiased: about 0 for independent data, can be negative)",
    best="1: the same representation up to rotation and scale",
    cost="linear: O(N·R·R′) with R the width, or the rank of a circuit; rbf: O(N²·R), N x N in memory",
    reference=(
        "Kornblith et al. 2019, Similarity of Neural Network Representations Revisited, ICML, equations 4 "
        "and 5; debiased: Song et al. 2012, Feature Selection via Dependence Maximization, JMLR, equation "
        "5; batch: Nguyen et al. 2021, ICLR, equation 2"
    ),
    accepts=frozenset({"activations"}),
    params={
        "debiased": Param(False, "unbiased estimator of the similarities"),
        "kernel": Param("linear", "linear, or rbf (Gaussian)", choices=("linear", "rbf")),
        "bandwidth": Param(1.0, "rbf: its sigma, as a multiple of the median distance", low=1e-3, high=1e3),
        "batch": Param(0, "rows per batch of the minibatch form (at least 4); 0: all rows at once", low=0),
    },
    similar="high",
    resampling=_resampling,
    bounds=(0.0, 1.0),
    companion="debiased",
    power=4,
)
