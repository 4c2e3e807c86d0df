"""When tokens are learned and forgotten, from their losses at the steps of a run.

Letters: S steps, N rows, T positions, K kinds of tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

OCCURRENCES = 8
"""Fewest occurrences of a token whose losses are averaged."""
FEWEST_STEPS = 5
"""Fewest steps that a sigmoid is fitted to: it has four parameters."""


@dataclass(frozen=True)
class Acquired:
    """What is known of each kind of token."""

    token_K: np.ndarray
    count_K: np.ndarray
    """Occurrences."""
    age_K: np.ndarray
    """Step of acquisition; NaN for one that is not acquired, or that no sigmoid fits."""


def sigmoid(x: np.ndarray, high: float, low: float, middle: float, width: float) -> np.ndarray:
    """From `high` on the left to `low` on the right, halfway at `middle`."""
    from scipy.special import expit

    return np.asarray(low + (high - low) * expit(-(x - middle) / width))


def age_of_acquisition(steps: Sequence[int], losses_S: Sequence[float], chance: float) -> float:
    """Step at which a sigmoid fitted to losses over ln(1 + step) is halfway from chance to the lowest loss measured.

    Chang & Bergen 2022, section 3.3: a sigmoid over the logarithm of the step, cut halfway between the surprisal of
    random chance and the least surprisal attained. The 1 lets step 0 be there.

    Args:
        steps: S ascending steps, at least `FEWEST_STEPS`.
        losses_S: Mean loss at each, nats.
        chance: ln V.

    Returns:
        The step, between the first and the last; NaN where the loss never comes halfway, no sigmoid fits, or the fit
        lies halfway outside of the steps measured.
    """
    import warnings

    from scipy.optimize import OptimizeWarning, curve_fit

    x, y = np.log1p(np.asarray(steps, np.float64)), np.asarray(losses_S, np.float64)
    lowest = float(y.min())
    half = (chance + lowest) / 2
    if not np.isfinite(y).all() or lowest >= chance or y.max() - lowest < 1e-9 or len(y) < FEWEST_STEPS:
        return math.nan
    begin = x[int(np.argmin(np.abs(y - (y.max() + lowest) / 2)))]
    span = max(x[-1] - x[0], 1e-9)
    bounds = ([lowest - 1, lowest - 1, x[0] - span, 1e-3 * span], [y.max() + 1, y.max() + 1, x[-1] + span, 2 * span])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OptimizeWarning)  # the covariance is not used
            (high, low, middle, width), _ = curve_fit(
                sigmoid, x, y, p0=(float(y.max()), lowest, begin, span / 10), bounds=bounds, maxfev=2000
            )
    except RuntimeError:
        return math.nan
    if not min(high, low) < half < max(high, low):
        return math.nan
    at = middle - width * math.log((half - low) / (high - half))
    step = math.expm1(at)
    return step if steps[0] - 1e-6 <= step <= steps[-1] + 1e-6 else math.nan


def ages(steps: Sequence[int], losses_SNT: np.ndarray, targets_NT: np.ndarray, vocab_size: int) -> Acquired:
    """Age of acquisition of each kind of token with `OCCURRENCES` or more in the rows.

    Args:
        steps: Ascending.
        losses_SNT: Losses of each step.
        targets_NT: The tokens that they are of.
        vocab_size: V.
    """
    flat = targets_NT.ravel().astype(np.int64)
    counts = np.bincount(flat, minlength=vocab_size)
    kinds = np.flatnonzero(counts >= OCCURRENCES)
    means = [np.bincount(flat, weights=one.ravel(), minlength=vocab_size)[kinds] / counts[kinds] for one in losses_SNT]
    by_kind = np.asarray(means).T
    found = [age_of_acquisition(steps, one, math.log(vocab_size)) for one in by_kind]
    return Acquired(kinds, counts[kinds], np.asarray(found, np.float64))


def forgotten(before_NT: np.ndarray, now_NT: np.ndarray) -> tuple[float, int]:
    """Share of tokens predicted before that no longer are, and how many those were (Toneva et al. 2019, section 3).

    Returns:
        The share, NaN where none was predicted before; and the number of tokens that were.
    """
    held = before_NT.astype(bool)
    known = int(held.sum())
    return (float((held & ~now_NT.astype(bool)).sum() / known) if known else math.nan), known
