"""Perplexities, and standard errors of what is measured on independent units."""

from __future__ import annotations

import math

import numpy as np

LARGEST_LOSS = 700.0
"""Beyond it exp overflows."""


def perplexity(loss: float) -> float:
    """exp of a mean loss in nats; of one beyond 700, that of 700."""
    return math.exp(min(float(loss), LARGEST_LOSS))


def share_error(share: float, n: int) -> float:
    """Standard error of a share of n: √(p (1 − p) / n)."""
    return math.sqrt(share * (1 - share) / n)


def mean_error(values: np.ndarray) -> float:
    """Standard error of the mean of (n,) values, n ≥ 2: their standard deviation / √n."""
    return float(values.std(ddof=1) / math.sqrt(len(values)))


def ratio_error(totals: np.ndarray, sizes: np.ndarray) -> float:
    """Standard error of Σ totals / Σ sizes over n ≥ 2 independent units; 0 where the ratio is the same in each."""
    n, ratio = len(totals), totals.sum() / sizes.sum()
    return float(math.sqrt(n / (n - 1) * np.square(totals - ratio * sizes).sum()) / sizes.sum())
