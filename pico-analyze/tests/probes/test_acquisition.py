"""Ages of acquisition from curves whose age is known; forgetting events."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_analyze.probes.acquisition import FEWEST_STEPS, age_of_acquisition, ages, forgotten, sigmoid

STEPS = [0, *(2**n for n in range(15))]
CHANCE = math.log(4096)


def curve(middle: float, low: float = 1.0, high: float = CHANCE, width: float = 0.5) -> np.ndarray:
    """Losses whose sigmoid has its middle at step `middle`."""
    return sigmoid(np.log1p(STEPS), high, low, math.log1p(middle), width)


@given(st.floats(8, 2000), st.floats(0.1, 3.0))
def test_a_sigmoid_from_chance_is_acquired_in_its_middle(middle: float, low: float) -> None:
    assert age_of_acquisition(STEPS, curve(middle, low), CHANCE) == pytest.approx(middle, rel=0.05)


def test_noise_moves_the_age_little() -> None:
    rng = np.random.default_rng(0)
    found = [age_of_acquisition(STEPS, curve(100) + 0.1 * rng.standard_normal(len(STEPS)), CHANCE) for _ in range(20)]
    assert np.isfinite(found).all() and 70 < np.median(found) < 140


def test_halfway_is_between_chance_and_the_lowest_loss_not_the_highest() -> None:
    """A token that begins at 12 nats, above chance, and ends at 2: halfway is (ln V + 2) / 2 wherever it began."""
    losses = curve(100, low=2.0, high=12.0)
    half = (CHANCE + losses.min()) / 2
    at = math.log1p(100) - 0.5 * math.log((half - 2) / (12 - half))
    assert age_of_acquisition(STEPS, losses, CHANCE) == pytest.approx(math.expm1(at), rel=0.02)


@pytest.mark.parametrize(
    "losses",
    [np.full(len(STEPS), 5.0), np.full(len(STEPS), CHANCE + 1), np.linspace(CHANCE, CHANCE + 2, len(STEPS))],
    ids=["constant", "worse than chance", "getting worse"],
)
def test_what_is_not_learned_has_no_age(losses: np.ndarray) -> None:
    assert math.isnan(age_of_acquisition(STEPS, losses, CHANCE))


def test_few_steps_have_no_age() -> None:
    few = STEPS[: FEWEST_STEPS - 1]
    assert math.isnan(age_of_acquisition(few, list(curve(4))[: len(few)], CHANCE))


def test_losses_are_averaged_by_kind_of_token_and_rare_ones_left_out() -> None:
    rng = np.random.default_rng(1)
    targets = np.array([[3] * 8 + [5] * 12 + [7] * 2])  # 7 stands twice
    losses = np.empty((len(STEPS), 1, 22))
    losses[:, 0, :8] = curve(20)[:, None]
    losses[:, 0, 8:20] = curve(500)[:, None]
    losses[:, 0, 8:20] += (noise := rng.standard_normal((len(STEPS), 12))) - noise.mean(1, keepdims=True)
    losses[:, 0, 20:] = 0
    found = ages(STEPS, losses, targets, 4096)
    assert found.token_K.tolist() == [3, 5] and found.count_K.tolist() == [8, 12]
    np.testing.assert_allclose(found.age_K, [20, 500], rtol=0.05)


def test_forgetting_counts_what_was_known() -> None:
    before, now = np.array([[1, 1, 0, 1]]), np.array([[1, 0, 1, 0]])
    assert forgotten(before, now) == (2 / 3, 3)
    share, known = forgotten(np.zeros((1, 4)), now)
    assert math.isnan(share) and known == 0
