"""Gradient noise: how large a batch has to be before its gradient is more signal than noise.

Of the gradients of parts of one batch, all at the same weights (`captures.noise` in pico-train). Gradients of two steps
are of two weights, and what differs between them is not noise alone: they are not taken.
"""

from __future__ import annotations

import math

import numpy as np

from pico_analyze.matrices.matrix import Matrix
from pico_analyze.metrics.spec import MetricSpec, Result, single_metric

_LEVEL = 0.95
"""Coverage that intervals aim for, as those of resampled rows do."""


@single_metric
def gradient_noise(matrix: Matrix) -> Result:
    """Simple noise scale tr(Σ)/|G|² from the gradients of n equal parts of one batch, at the same weights.

    Σ is the covariance of the gradient of one row, and G its mean. Of a part of b rows E‖g‖² = |G|² + tr(Σ)/b, and so
    of the batch of B = n·b rows: the two estimates without bias follow from the squared norms of both sizes (reference,
    equations A.2 and A.3).

    The interval is that of |G|²/tr(Σ), which is defined where no signal is seen too, turned over: t standard errors of
    the jackknife over parts with n − 1 degrees of freedom. Where it reaches down to no signal, the noise scale has no
    upper end (infinity). In simulations it holds the true value in 93 to 99 % of cases (docs/uncertainty.md).

    Args:
        matrix: (N, P) array or `Matrix` of N = n + 1 lines and P = 3 columns, as pico-train captures it for each site:
            a line for each part with its rows, ‖g‖² and ‖g − G‖², where G is the batch's gradient; the last line is
            the batch's own: rows, ‖G‖², 0.

    Returns:
        0 to infinity, the number of rows (of `seq_len` tokens each) at which noise and signal are equal. Undefined
        (NaN) where the signal is not positive: the batch is too small to tell it from noise, and `ci_low` says how
        large the scale is at least; when every gradient is zero; and for what are no such lines. `extra`: noise tr(Σ),
        signal |G|², parts, ci_low and ci_high; ci_reason where there is no interval, as of two parts.

    Raises:
        UsageError: a parameter that does not exist.
        DataError: not a matrix of real numbers.

    References:
        McCandlish, Kaplan, Amodei and others 2018, An Empirical Model of Large-Batch Training, equation 2.9 and
        appendix A.1 (arXiv:1812.06162); the jackknife: Shao and Tu 1995, The Jackknife and Bootstrap, section 2.1.
    """
    lines = np.asarray(matrix.dense(), np.float64)
    if (wrong := _wrong(lines)) is not None:
        return Result.undefined(wrong)
    n, rows, whole = len(lines) - 1, float(lines[0, 0]), float(lines[-1, 1])
    squares, apart = lines[:-1, 1], lines[:-1, 2]
    noise = rows * float(apart.sum()) / (n - 1)
    signal = whole - noise / (rows * n)
    facts: dict[str, float | str] = {"noise": noise, "signal": signal, "parts": float(n)}
    if whole == 0 and noise == 0:
        return Result.undefined("every gradient is zero", **facts)
    if noise > 0:
        facts |= _interval(squares, apart, rows, whole, signal / noise)
    if signal <= 0:
        return Result.undefined(
            "the parts of the batch do not agree on a direction: the signal cannot be told from noise", **facts
        )
    return Result(noise / signal, extra=facts)


def _wrong(lines: np.ndarray) -> str | None:
    """What about the lines cannot be, in words, or None."""
    if lines.shape[1] != 3 or len(lines) < 3:
        return "not lines of parts of a batch: rows, squared norm and squared distance of at least two, then the batch"
    if (lines < 0).any() or lines[-1, 2] != 0:
        return "squared norms below zero: these are not the lines of parts of a batch"
    if (lines[:-1, 0] != lines[0, 0]).any() or lines[0, 0] * (len(lines) - 1) != lines[-1, 0] or lines[0, 0] == 0:
        return "the parts are not equally large, or do not make up the batch"
    return None


def _interval(
    squares: np.ndarray, apart: np.ndarray, rows: float, whole: float, share: float
) -> dict[str, float | str]:
    """Interval of the noise scale, from its inverse without each of the n parts.

    Without part i the mean is G − eᵢ/(n − 1), where eᵢ = gᵢ − G: all that is needed of it follows from the three
    squared norms of each part.
    """
    n = len(squares)
    if n < 3:
        return {
            "ci_low": math.nan,
            "ci_high": math.nan,
            "ci_reason": "two parts have no interval: capture more of them",
        }
    along = (squares - whole - apart) / 2  # G·eᵢ
    means = whole - 2 * along / (n - 1) + apart / (n - 1) ** 2
    noises = rows * (apart.sum() - apart * n / (n - 1)) / (n - 2)
    if (noises <= 0).any():
        return {"ci_low": math.nan, "ci_high": math.nan, "ci_reason": "all noise is that of one part"}
    shares = (means - noises / (rows * (n - 1))) / noises
    error = math.sqrt((n - 1) / n * float(np.square(shares - shares.mean()).sum()))
    from scipy.special import stdtrit  # imported when it is needed: other commands start without it

    reach = float(stdtrit(n - 1, 0.5 + _LEVEL / 2)) * error
    low, high = share - reach, share + reach
    return {"ci_low": 1 / high if high > 0 else math.inf, "ci_high": 1 / low if low > 0 else math.inf}


GRADIENT_NOISE = MetricSpec(
    name="gradient_noise",
    kind="single",
    fn=gradient_noise,
    definition=(
        "Simple gradient noise scale tr(Σ)/|G|², from gradients of equal parts of one batch at the same weights, which "
        "pico-train keeps with captures.noise=N: the number of rows at which noise and signal are equal. With its "
        "interval (ci_low, ci_high), without --bootstrap; per site, per block (site block) and of the whole model "
        "(site model). Gradients of two steps are of two weights, and are not taken."
    ),
    formula=(
        r"\frac{\operatorname{tr}(\Sigma)}{|G|^2}, \qquad "
        r"\operatorname{tr}(\Sigma) = \frac{b}{n-1} \sum_{i=1}^{n} \|g_i - \bar g\|^2, \qquad "
        r"|G|^2 = \|\bar g\|^2 - \frac{\operatorname{tr}(\Sigma)}{n\,b}"
    ),
    range="0 to infinity, in rows",
    best="0: no noise; above the batch size: one batch's gradient is mostly noise",
    cost="a few operations on what was captured",
    reference=(
        "McCandlish et al. 2018, An Empirical Model of Large-Batch Training, equation 2.9 and appendix A.1 "
        "(arXiv:1812.06162)"
    ),
    accepts=frozenset({"noise"}),
    power=1,
    axis="log",
    revision=1,
)
