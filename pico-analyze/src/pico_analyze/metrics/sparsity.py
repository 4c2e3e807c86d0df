"""Elementwise metrics: how unevenly the entries of a matrix are distributed.

A circuit is multiplied out block by block here, in the dtype of its data; sums are accumulated in float64. M
is the number of entries.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Literal

import numpy as np

from pico_analyze.matrices.factored import Concatenated
from pico_analyze.matrices.matrix import Matrix
from pico_analyze.metrics.resampling import Resampling
from pico_analyze.metrics.spec import MetricSpec, Result, single_metric
from pico_analyze.parameters import Param, ParamValue

_ZERO = "all entries are zero"
_CHUNK = 2**16


_SORTED = "sorted magnitudes"
_KEPT_BYTES = 2**26
"""Sorted parts of a matrix are kept for those who ask for the parts up to this size of all of them."""


def _sorted_magnitudes(matrix: Matrix) -> np.ndarray:
    """Absolute values of all entries, ascending, in the data's dtype.

    The heads of a circuit, side by side, are merged where that is faster than sorting all of them once more.
    """
    kept = matrix.remembered(_SORTED)
    if kept is not None:
        return np.asarray(kept)
    small = matrix.dtype == np.float32 and matrix.size * matrix.dtype.itemsize <= _KEPT_BYTES
    if isinstance(matrix, Concatenated) and small and _merging_is_faster():
        return _merged([part.memo(_SORTED, partial(_sorted_anew, part)) for part in matrix.parts])
    return _sorted_anew(matrix)


def _sorted_anew(matrix: Matrix) -> np.ndarray:
    magnitudes = np.empty(matrix.size, dtype=matrix.dtype)
    start = 0
    for block in matrix.blocks():
        np.abs(block.ravel(order="K"), out=magnitudes[start : start + block.size])
        start += block.size
    magnitudes.sort()
    return magnitudes


def _merged(runs: Sequence[np.ndarray]) -> np.ndarray:
    """Ascending runs as one. The bits of floats that are not negative order as integers do, and timsort finds runs."""
    merged = np.concatenate(runs)
    merged.view(np.int32).sort(kind="stable")
    return merged


@cache
def _merging_is_faster() -> bool:
    """Whether numpy merges sorted float32 faster than it sorts them: it depends on the processor.

    On an AMD processor where numpy sorts without AVX-512, sorting took 27 to 34 ns a value and merging twelve runs 12
    to 14; where numpy sorts with it, sorting can be the faster one. The values are the same.
    """
    values = np.random.default_rng(0).random((12, 2**13), dtype=np.float32)
    runs = list(np.sort(values, axis=1))

    def seconds(work: Callable[[], object]) -> float:
        best = math.inf
        for _ in range(3):
            start = time.thread_time()
            work()
            best = min(best, time.thread_time() - start)
        return best

    return seconds(lambda: _merged(runs)) < seconds(lambda: np.sort(values, axis=None))


@single_metric
def gini(matrix: Matrix, *, corrected: bool = False) -> Result:
    """Gini coefficient of the absolute entries: how unevenly their magnitudes are distributed.

    With the M magnitudes |x| ascending, Σᵢ (2i − M − 1)·|x|ᵢ / (M·Σ|x|).

    Args:
        matrix: (N, P) array or `Matrix` of weights, gradients or activations, taken as it is.
        corrected: Multiply by M/(M − 1), so that one entry that holds everything gives 1 rather than 1 − 1/M.

    Returns:
        0 to 1 − 1/M (corrected: to 1); 0 where all magnitudes are equal, the highest (sparsest) for a single entry that
        is not zero. Undefined (NaN) for the zero matrix, and for one entry.

    Raises:
        UsageError: a parameter that does not exist or a value that it does not take.
        DataError: not a matrix of real numbers.

    References:
        Hurley and Rickard 2009, Comparing Measures of Sparsity, IEEE Trans. Inf. Theory 55, table I; the correction:
        Deltas 2003, The Small-Sample Bias of the Gini Coefficient, Rev. Econ. Stat. 85, equation 4.
    """
    n = matrix.size
    if n < 2:
        return Result.undefined("one entry has no distribution")
    magnitudes = _sorted_magnitudes(matrix)
    if magnitudes[-1] == 0:
        return Result.undefined(_ZERO)
    ranks = np.arange(1, min(n, _CHUNK) + 1, dtype=np.float64)
    total = weighted = 0.0
    for start in range(0, n, _CHUNK):  # in chunks that stay in the cache; 2i − M − 1 with i = start + local rank
        chunk = magnitudes[start : start + _CHUNK].astype(np.float64)
        chunk_total = float(chunk.sum())
        total += chunk_total
        weighted += 2.0 * float(ranks[: len(chunk)] @ chunk) + (2.0 * start - n - 1.0) * chunk_total
    value = weighted / (n * total)
    return Result(value * n / (n - 1) if corrected else value)


@single_metric
def hoyer(matrix: Matrix) -> Result:
    """Sparsity (√M − ‖x‖₁/‖x‖₂)/(√M − 1) of the M entries.

    Args:
        matrix: (N, P) array or `Matrix` of weights, gradients or activations, taken as it is.

    Returns:
        0 to 1; 0 where all magnitudes are equal, 1 (sparsest) for a single entry that is not zero. Undefined (NaN) for
        the zero matrix, and for one entry.

    Raises:
        UsageError: a parameter that does not exist or a value that it does not take.
        DataError: not a matrix of real numbers.

    References:
        Hoyer 2004, Non-Negative Matrix Factorization with Sparseness Constraints, JMLR 5, section 3.1.
    """
    n = matrix.size
    if n < 2:
        return Result.undefined("one entry has no distribution")
    largest = _largest(matrix)
    if largest == 0:
        return Result.undefined(_ZERO)
    absolute = squared = 0.0
    for piece in matrix.pieces():
        wide = np.abs(piece.astype(np.float64)) / largest
        absolute += float(wide.sum())
        squared += float(np.vdot(wide, wide))
    return Result((math.sqrt(n) - absolute / math.sqrt(squared)) / (math.sqrt(n) - 1.0))


@single_metric
def near_zero_fraction(
    matrix: Matrix, *, threshold: float = 0.01, relative_to: Literal["rms", "max", "none"] = "rms"
) -> Result:
    """Share of the entries with |x| ≤ threshold · scale.

    Args:
        matrix: (N, P) array or `Matrix` of weights, gradients or activations, taken as it is.
        threshold: Largest magnitude that counts as near zero, in units of the scale; at least 0.
        relative_to: The scale: the root mean square of the entries (rms), the largest magnitude (max), or 1 (none).

    Returns:
        0 to 1; 1 where all entries are negligible (the zero matrix too), 0.008 for a normal law at the default
        threshold. Undefined (NaN) only where entries are not finite, or (rms) their squares are not. `extra`: limit, in
        the units of the entries.

    Raises:
        UsageError: a parameter that does not exist or a value that it does not take.
        DataError: not a matrix of real numbers.

    References:
        Hurley and Rickard 2009, Comparing Measures of Sparsity, IEEE Trans. Inf. Theory 55, table I (the l0-epsilon
        measure).
    """
    if relative_to == "rms":
        if (reason := matrix.out_of_range(2)) is not None:
            return Result.undefined(reason)
        scale = matrix.frobenius() / math.sqrt(matrix.size)
    elif relative_to == "max":
        scale = _largest(matrix)
    else:
        scale = 1.0
    limit = threshold * scale
    near = sum(int(np.count_nonzero(np.abs(piece) <= limit)) for piece in matrix.pieces())
    return Result(near / matrix.size, extra={"limit": limit})


@single_metric
def kurtosis(matrix: Matrix, *, excess: bool = True) -> Result:
    """Fourth central moment of the entries over their squared variance: how heavy the tails are.

    Args:
        matrix: (N, P) array or `Matrix` of weights, gradients or activations, taken as it is.
        excess: Subtract 3, the value of a normal distribution.

    Returns:
        −2 to infinity (without excess: 1 to infinity), of biased (population) moments; 0 as a normal distribution,
        large where a few entries dominate. Undefined (NaN) when all entries are equal.

    Raises:
        UsageError: a parameter that does not exist or a value that it does not take.
        DataError: not a matrix of real numbers.

    References:
        Joanes and Gill 1998, Comparing Measures of Sample Skewness and Kurtosis, The Statistician 47, g₂.
    """
    largest = _largest(matrix)
    if largest == 0:
        return Result.undefined("all entries are equal")
    mean = math.fsum(float(p.sum(dtype=np.float64)) for p in matrix.pieces()) / matrix.size
    second = fourth = 0.0
    for piece in matrix.pieces():
        squares = np.square((piece.astype(np.float64) - mean) / largest)
        second += float(squares.sum())
        fourth += float(np.vdot(squares, squares))
    second, fourth = second / matrix.size, fourth / matrix.size
    if math.sqrt(second) <= 1e-14:
        return Result.undefined("all entries are equal")
    return Result(fourth / second**2 - (3.0 if excess else 0.0))


def _largest(matrix: Matrix) -> float:
    def scan() -> float:
        return max(float(max(piece.max(), -piece.min())) for piece in matrix.pieces())

    return matrix.memo("largest", scan)


GINI = MetricSpec(
    name="gini",
    kind="single",
    fn=gini,
    definition=(
        "Gini coefficient of the absolute entries: their mean absolute difference over twice their mean, as Hurley and "
        "Rickard define it, and as pico-analyze 1.0 had it. corrected=true multiplies by M/(M−1) for M entries, so "
        "that one entry that holds everything gives exactly 1."
    ),
    formula=(
        r"\frac{\sum_{i=1}^{M} (2i - M - 1)\,|x|_{(i)}}{M \sum_{i=1}^{M} |x|_{(i)}}, \qquad "
        r"|x|_{(1)} \le \dots \le |x|_{(M)}"
    ),
    range="0 to 1",
    best="1 − 1/M (corrected: 1): sparsest (one entry holds everything); 0: all magnitudes equal",
    cost="sorts all entries, O(M log M); a circuit is multiplied out block by block",
    reference="Hurley and Rickard 2009, Comparing measures of sparsity, table I; Deltas 2003, equation 4 (correction)",
    params={"corrected": Param(False, "multiply by M/(M−1)")},
    bounds=(0.0, 1.0),
)

HOYER = MetricSpec(
    name="hoyer",
    kind="single",
    fn=hoyer,
    definition="(√M − ‖x‖₁/‖x‖₂)/(√M − 1) of the M entries.",
    formula=r"\frac{\sqrt{M} - \|x\|_1 / \|x\|_2}{\sqrt{M} - 1}",
    range="0 to 1",
    best="1: sparsest (one entry that is not zero); 0: all magnitudes equal",
    cost="two passes over all entries; a circuit is multiplied out block by block",
    reference="Hoyer 2004, Non-negative matrix factorization with sparseness constraints, JMLR, section 3.1",
    bounds=(0.0, 1.0),
)


def _resampling(params: Mapping[str, ParamValue]) -> Resampling:
    return Resampling(refused="measured by the largest entry" if params["relative_to"] == "max" else None)


NEAR_ZERO_FRACTION = MetricSpec(
    name="near_zero_fraction",
    kind="single",
    fn=near_zero_fraction,
    definition="Share of the entries whose magnitude is at most threshold times the root mean square (or max, or 1).",
    formula=r"\frac{1}{M} \, \#\{\, i : |x_i| \le \theta\,\mathrm{rms}(X) \,\}",
    range="0 to 1",
    best="1: all entries are negligible; a normal law gives 0.008 at the default threshold",
    cost="one pass over all entries; a circuit is multiplied out block by block",
    reference="Hurley and Rickard 2009, Comparing measures of sparsity, table I (the l0-epsilon measure)",
    params={
        "threshold": Param(0.01, "largest magnitude that counts as near zero, times the scale", low=0.0),
        "relative_to": Param("rms", "the scale: rms, max, or none (absolute)", choices=("rms", "max", "none")),
    },
    resampling=_resampling,
)

KURTOSIS = MetricSpec(
    name="kurtosis",
    kind="single",
    fn=kurtosis,
    definition="Fourth central moment of the entries over their squared variance, minus 3: how heavy the tails are.",
    formula=r"\frac{\frac{1}{M}\sum_i (x_i - \bar x)^4}{\bigl(\frac{1}{M}\sum_i (x_i - \bar x)^2\bigr)^2} - 3",
    range="-2 to infinity (excess=false: 1 to infinity)",
    best="0: as a normal distribution; large: a few entries dominate",
    cost="three passes over all entries; a circuit is multiplied out block by block",
    reference="Joanes and Gill 1998, Comparing measures of sample skewness and kurtosis, g2",
    params={"excess": Param(True, "subtract 3, the value of a normal distribution")},
)
