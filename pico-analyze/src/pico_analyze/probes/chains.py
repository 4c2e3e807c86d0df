"""The local learning coefficient from losses along chains, and whether the chains agree.

Letters: C chains, D draws of each.
"""

from __future__ import annotations

import math

import numpy as np

AGREE = 1.1
"""Largest split R-hat of chains that are taken for converged (Gelman & Rubin 1992 call 1.1 to 1.2 acceptable)."""
FEWEST_DRAWS = 4
"""Fewest draws of a chain: a half of it has to have a variance."""


def inverse_temperature(n: int) -> float:
    """n β = n / ln n, of the β = 1 / ln n of Watanabe 2013 (WBIC); n at least 2."""
    return n / math.log(n)


def split_r_hat(losses_CD: np.ndarray) -> float:
    """√((W (D' - 1)/D' + B/D') / W) over the halves of all chains, each of D' draws (Gelman et al. 2013, eq. 11.4).

    W is the mean variance within halves, B is D' times the variance of their means. Near 1 where all halves tell of one
    distribution; larger where chains differ, or still drift. 1 for draws that are all equal.
    """
    half = losses_CD.shape[1] // 2
    halves = np.concatenate([losses_CD[:, :half], losses_CD[:, -half:]]).astype(np.float64)
    within = float(halves.var(axis=1, ddof=1).mean())
    between = half * float(halves.mean(axis=1).var(ddof=1))
    if within == 0:
        return 1.0 if between == 0 else math.inf
    return math.sqrt((within * (half - 1) / half + between / half) / within)


def learning_coefficient(losses_CD: np.ndarray, loss_before: float, n_beta: float) -> tuple[float, float]:
    """n β (mean loss along the chains - loss before), and its standard error over chains (Lau et al. 2023, equation 6).

    Args:
        losses_CD: Mean loss at each draw, after the burn-in, nats.
        loss_before: Mean loss at the weights themselves.
        n_beta: Inverse temperature that the chains were drawn with.

    Returns:
        d/2 for a loss that is regular in d directions, less where it is singular; and NaN as the error of one chain.
    """
    by_chain = n_beta * (losses_CD.astype(np.float64).mean(axis=1) - loss_before)
    chains = len(by_chain)
    return float(by_chain.mean()), float(by_chain.std(ddof=1) / math.sqrt(chains)) if chains > 1 else math.nan
