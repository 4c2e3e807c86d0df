"""Canonical correlations: where they begin and end, what stands beside them, and the boundary of each sentence."""

from __future__ import annotations

import numpy as np
import pytest
from rank_facts import others

from pico_analyze.matrices.factored import Concatenated, Factored
from pico_analyze.matrices.matrix import Dense
from pico_analyze.metrics.cca import mean_cca, principal_basis, pwcca, svcca

EACH = pytest.mark.parametrize("metric", [mean_cca, svcca, pwcca])
RNG = np.random.default_rng(21)


def noise(*shape):
    return RNG.standard_normal(shape)


@EACH
def test_of_one_feature_each_it_is_the_absolute_correlation(metric):
    x, y = noise(20, 1), noise(20, 1)
    result = metric(x, y)
    assert result == pytest.approx(abs(np.corrcoef(x[:, 0], y[:, 0])[0, 1]), rel=1e-12)
    assert others(result.extra) == {"n": 20, "d": 1, "d_target": 1, "k": 1, "k_target": 1, "n_distinct": 20}


@EACH
def test_one_sample_has_no_variance_and_two_are_one_direction(metric):
    one = metric(noise(1, 3), noise(1, 2))
    assert one.reason == "one sample has no variance" and one.extra == {"n": 1, "d": 3, "d_target": 2}
    two = metric(noise(2, 3), noise(2, 2))
    assert two.reason.startswith("2 samples are too few for 1 direction")
    assert others(two.extra) == {"n": 2, "d": 3, "d_target": 2, "k": 1, "k_target": 1, "n_distinct": 2}


@EACH
def test_a_side_that_does_not_vary_is_named_with_what_was_counted(metric):
    constant = np.tile([1.0, -2.0], (9, 1))
    for sides, which, d in (((constant, noise(9, 3)), "first", (2, 3)), ((noise(9, 3), constant), "second", (3, 2))):
        result = metric(*sides)
        assert result.reason == f"the {which} representation does not vary over the samples"
        assert result.extra == {"n": 9, "d": d[0], "d_target": d[1]}


@EACH
@pytest.mark.parametrize("swapped", [False, True])
def test_one_direction_less_than_the_samples_leave_is_enough_for_a_value(metric, swapped):
    def result(n):
        sides = noise(n, 4), noise(n, 2)
        return metric(*(sides[::-1] if swapped else sides), variance=1.0)

    assert "5 samples are too few for 4 directions" in result(5).reason  # any 4 directions of 5 centred samples agree
    assert 0 < result(6) <= 1 and result(6).warning is not None  # 4 + 2 > 6 − 1
    assert 0 < result(7) < 1 and result(7).warning is None


@EACH
def test_chance_is_warned_of_as_soon_as_the_directions_outnumber_the_samples_but_one(metric):
    for width, warns in ((4, False), (5, False), (6, True)):
        result = metric(noise(10, 4), noise(10, width), variance=1.0)
        assert (result.warning is not None) == warns, width  # 4 + 5 = 10 − 1
        assert result.extra["k"] == 4 and result.extra["k_target"] == width
    assert result.warning.startswith("canonical correlations of k and k_target directions on fewer different samples")


@EACH
def test_repeated_samples_do_not_count_for_the_warning(metric):
    x, y = noise(10, 4), noise(10, 5)
    assert metric(x, y, variance=1.0).warning is None
    x[9], y[9] = x[8], y[8]
    result = metric(x, y, variance=1.0)
    assert result.extra["n_distinct"] == 9 and result.warning is not None


@EACH
def test_rounding_never_leads_above_1(metric):
    for n in range(20, 50):
        x = noise(n, 6)
        assert metric(x, x @ noise(6, 6), variance=1.0) <= 1.0


def test_share_of_variance_keeps_the_fewest_directions_that_carry_it():
    columns = np.linalg.qr(noise(30, 4) - 1.0)[0]
    columns -= columns.mean(axis=0)
    columns = np.linalg.qr(columns)[0] * np.sqrt([8.0, 4.0, 3.0, 1.0])  # shares 1/2, 3/4, 15/16, 1
    for variance, k in ((0.01, 1), (0.499, 1), (0.501, 2), (0.749, 2), (0.751, 3), (0.937, 3), (0.938, 4), (1.0, 4)):
        assert mean_cca(columns, noise(30, 3), variance=variance).extra["k"] == k, variance
        basis = principal_basis(Dense(columns), variance)
        np.testing.assert_allclose(np.abs(basis.T @ columns), np.diag(np.sqrt([8.0, 4.0, 3.0, 1.0]))[:k], atol=1e-12)


def test_all_variance_means_each_direction_above_rounding_however_small():
    columns = np.linalg.qr(noise(30, 3) - 1.0)[0]
    columns -= columns.mean(axis=0)
    columns = np.linalg.qr(columns)[0]
    for smallest, k in ((1e-9, 3), (1e-13, 3), (1e-16, 2)):  # 1 − 1e-18 is 1 in floats; rounding is at 30·eps
        x = columns * [1.0, 0.5, smallest]
        assert principal_basis(Dense(x), 1.0).shape == (30, k)
        assert principal_basis(Dense(x), 0.999999).shape == (30, 2)


def test_a_direction_exactly_at_rounding_is_no_direction():
    eps = np.finfo(float).eps
    for times, k in ((1, 1), (1.5, 2)):
        x = np.zeros((4, 2))
        x[0, 0], x[1, 1] = 1.0, 4 * eps * times  # up to max(N, P)·eps·s₁ it is rounding
        assert principal_basis(Dense(x), 1.0).shape == (4, k)


@EACH
def test_a_circuit_correlates_as_its_product_does(metric):
    head = Factored(noise(40, 2), noise(6, 2), samples=True)
    heads = Concatenated([head, Factored(noise(40, 3), noise(6, 3), samples=True)])
    y = noise(40, 4) + head.dense()[:, :4]
    for circuit, d in ((head, 2), (heads, 5)):
        result, expected = metric(circuit, y, variance=1.0), metric(circuit.dense(), y, variance=1.0)
        assert result == pytest.approx(expected, rel=1e-10) and result.warning is None
        assert others(result.extra) == {**others(expected.extra), "d": d} and result.extra["k"] == d
        assert metric(y, circuit, variance=1.0) == pytest.approx(metric(y, circuit.dense(), variance=1.0), rel=1e-10)


def test_pwcca_weighs_each_correlation_by_what_its_variate_shares_with_the_columns():
    basis = np.linalg.qr(noise(12, 5) - 1.0)[0]
    basis -= basis.mean(axis=0)
    basis = np.linalg.qr(basis)[0]
    x = basis[:, :2] * [3.0, 1.0]
    y = basis[:, :2] * [0.8, 0.6] + basis[:, 2:4] * [0.6, 0.8]  # correlations 0.8 and 0.6 with x's two columns
    assert pwcca(x, y, variance=1.0) == pytest.approx((3 * 0.8 + 1 * 0.6) / 4, rel=1e-12)
    assert pwcca(x + 7.0, y - 2.0, variance=1.0) == pytest.approx(0.75, rel=1e-12)
    assert mean_cca(x, y) == pytest.approx(0.7, rel=1e-12)
    assert svcca(x, y, variance=0.85).extra["k"] == 1 and svcca(x, y, variance=0.85).extra["k_target"] == 2
    assert svcca(x, y, variance=0.85) == pytest.approx(0.8, rel=1e-12)
