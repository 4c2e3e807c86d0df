"""Distances of distributions: closed forms, and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.special import log_softmax
from scipy.stats import entropy as scipy_entropy

from pico_analyze.probes import distributions

seeds = st.integers(0, 2**32 - 1)


def drawn(seed: int, n: int = 5, v: int = 7, spread: float = 3.0) -> np.ndarray:
    return log_softmax(spread * np.random.default_rng(seed).standard_normal((n, v)), axis=-1)


@given(seeds, seeds)
def test_kl_and_jsd_are_scipys(one: int, other: int) -> None:
    p, q = drawn(one), drawn(other)
    expected = [scipy_entropy(np.exp(a), np.exp(b)) for a, b in zip(p, q, strict=True)]
    np.testing.assert_allclose(distributions.kl(p, q), np.maximum(expected, 0), rtol=1e-9, atol=1e-12)
    squared = [jensenshannon(np.exp(a), np.exp(b)) ** 2 for a, b in zip(p, q, strict=True)]
    np.testing.assert_allclose(distributions.jsd(p, q), squared, rtol=1e-7, atol=1e-12)


@given(seeds)
def test_a_distribution_lies_nowhere_from_itself(seed: int) -> None:
    p = drawn(seed)
    for distance in (distributions.kl, distributions.jsd):
        np.testing.assert_allclose(distance(p, p), 0, atol=1e-15)
    assert not distributions.flips(p, p).any()


@given(seeds, seeds)
def test_jsd_is_symmetric_and_at_most_ln_2(one: int, other: int) -> None:
    p, q = drawn(one, spread=40), drawn(other, spread=40)
    np.testing.assert_allclose(distributions.jsd(p, q), distributions.jsd(q, p), rtol=1e-12)
    assert (distributions.jsd(p, q) <= math.log(2)).all() and (distributions.jsd(p, q) >= 0).all()


def test_what_has_nothing_in_common_lies_ln_2_apart() -> None:
    with np.errstate(divide="ignore"):
        p, q = np.log([[1.0, 0.0]]), np.log([[0.0, 1.0]])
    assert distributions.jsd(p, q)[0] == pytest.approx(math.log(2))
    assert distributions.kl(p, q)[0] == math.inf
    assert distributions.flips(p, q)[0]


def test_uniform_distributions_have_the_entropy_ln_v_and_certain_ones_none() -> None:
    assert distributions.entropy(np.full((1, 8), -math.log(8)))[0] == pytest.approx(math.log(8))
    with np.errstate(divide="ignore"):
        assert distributions.entropy(np.log([[0.0, 1.0, 0.0]]))[0] == 0


def test_of_two_known_distributions() -> None:
    p, q = np.log([[0.5, 0.5]]), np.log([[0.25, 0.75]])
    assert distributions.kl(p, q)[0] == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
