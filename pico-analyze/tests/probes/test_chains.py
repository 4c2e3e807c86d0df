"""Whether chains agree, and what follows from their losses: closed forms and a loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_analyze.probes.chains import inverse_temperature, learning_coefficient, split_r_hat

seeds = st.integers(0, 2**32 - 1)


def by_hand(losses: np.ndarray) -> float:
    """Gelman et al. 2013, section 11.4, one sum after the other."""
    half = losses.shape[1] // 2
    parts = [list(map(float, part)) for row in losses for part in (row[:half], row[losses.shape[1] - half :])]
    means = [sum(part) / half for part in parts]
    within = [sum((x - m) ** 2 for x in part) / (half - 1) for part, m in zip(parts, means, strict=True)]
    grand = sum(means) / len(means)
    b = half * sum((m - grand) ** 2 for m in means) / (len(means) - 1)
    w = sum(within) / len(within)
    return math.sqrt(((half - 1) / half * w + b / half) / w)


@given(seeds, st.integers(2, 5), st.integers(4, 31))
def test_r_hat_is_that_of_the_formula(seed: int, chains: int, draws: int) -> None:
    losses = np.random.default_rng(seed).standard_normal((chains, draws))
    assert split_r_hat(losses) == pytest.approx(by_hand(losses), rel=1e-10)


@given(seeds, st.floats(-100, 100), st.floats(0.01, 100))
def test_r_hat_does_not_depend_on_origin_or_unit(seed: int, origin: float, unit: float) -> None:
    losses = np.random.default_rng(seed).standard_normal((3, 20))
    assert split_r_hat(losses * unit + origin) == pytest.approx(split_r_hat(losses), rel=1e-6)


def test_chains_of_one_distribution_agree_and_others_do_not() -> None:
    rng = np.random.default_rng(0)
    same = rng.standard_normal((4, 2000))
    assert split_r_hat(same) < 1.01
    assert split_r_hat(same + np.arange(4)[:, None]) > 1.1, "chains apart"
    assert split_r_hat(same + np.linspace(0, 3, 2000)) > 1.1, "all drift alike: halves differ"
    assert split_r_hat(np.ones((2, 8))) == 1.0
    assert split_r_hat(np.repeat([[1.0], [2.0]], 8, axis=1)) == math.inf


def test_the_coefficient_is_that_of_the_definition() -> None:
    losses = np.array([[2.0, 4.0], [3.0, 5.0]])
    value, error = learning_coefficient(losses, 1.0, 10.0)
    assert value == pytest.approx(10 * (3.5 - 1))
    assert error == pytest.approx(np.std([20.0, 30.0], ddof=1) / math.sqrt(2))
    assert math.isnan(learning_coefficient(losses[:1], 1.0, 10.0)[1])
    assert inverse_temperature(1000) == pytest.approx(1000 / 6.907755278982137)
