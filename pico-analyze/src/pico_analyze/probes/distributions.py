"""Distances between what models say at the same positions: for the logit lens, and for outputs of steps and runs.

Letters: S positions, V vocabulary; ln p are natural logarithms of probabilities, rows of p sum to 1. All in nats.
"""

from __future__ import annotations

import math

import numpy as np

POSITIONS = 8
"""Positions of each row, evenly spaced, at which whole distributions are looked at."""


def kl(log_p_SV: np.ndarray, log_q_SV: np.ndarray) -> np.ndarray:
    """KL(p || q) = Σ_v p (ln p - ln q) at each position, (S,); 0 where both are equal, never below 0."""
    log_p, log_q = log_p_SV.astype(np.float64), log_q_SV.astype(np.float64)
    gone = np.isneginf(log_p)  # 0 ln 0 is 0
    terms = np.exp(log_p) * (np.where(gone, 0, log_p) - np.where(gone, 0, log_q))
    return np.asarray(np.maximum(terms.sum(-1), 0))


def jsd(log_p_SV: np.ndarray, log_q_SV: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence at each position, (S,), from 0 to ln 2 (Lin 1991, equation 4.1)."""
    log_p, log_q = log_p_SV.astype(np.float64), log_q_SV.astype(np.float64)
    log_m = np.logaddexp(log_p, log_q) - math.log(2)
    return np.asarray(np.minimum((kl(log_p, log_m) + kl(log_q, log_m)) / 2, math.log(2)))


def flips(log_p_SV: np.ndarray, log_q_SV: np.ndarray) -> np.ndarray:
    """Whether another token is the most probable one, (S,); of equally probable ones the first counts."""
    return np.asarray(log_p_SV.argmax(-1) != log_q_SV.argmax(-1))


def entropy(log_p_SV: np.ndarray) -> np.ndarray:
    """-Σ_v p ln p at each position, (S,), from 0 to ln V."""
    log_p = log_p_SV.astype(np.float64)
    return np.asarray(-(np.exp(log_p) * np.where(np.isneginf(log_p), 0, log_p)).sum(-1))
