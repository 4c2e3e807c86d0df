"""Power laws of spectra: the fit by hand and by brute force, what stands beside it, and where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from rank_facts import others

from pico_analyze.matrices.matrix import activations
from pico_analyze.metrics.power_law import fit_tail, power_law_alpha

RNG = np.random.default_rng(51)


def by_brute_force(values):
    """Of each start the exponent and the largest distance of the two distributions, just before and at each value."""
    fits = []
    for x_min in sorted(set(values))[:-1]:
        tail = sorted(value for value in values if value >= x_min)
        alpha = 1 + len(tail) / sum(math.log(value / x_min) for value in tail)
        law = [1 - (value / x_min) ** (1 - alpha) for value in tail]
        steps = range(len(tail))
        ks = max(max(abs(law[i] - i / len(tail)), abs(law[i] - (i + 1) / len(tail))) for i in steps)
        fits.append((ks, x_min, alpha, len(tail)))
    ks, x_min, alpha, n = min(fits, key=lambda fit: fit[0])
    return alpha, x_min, ks, n


def test_of_two_values_the_tail_is_both():
    # 1 + 2/ln 2; the law is at 0 where the data are at 1/2
    assert fit_tail(np.array([2.0, 1.0])) == (pytest.approx(1 + 2 / math.log(2)), 1.0, pytest.approx(0.5), 2)


@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_the_fit_is_the_best_of_all_starts_and_equal_values_stay_together(decimals):
    for _ in range(10):
        values = np.round(RNG.pareto(1.5, 25) + 1, decimals)
        alpha, x_min, ks, n = fit_tail(values)
        assert (alpha, x_min, ks, n) == pytest.approx(by_brute_force(values.tolist()), rel=1e-9)
        assert n == np.count_nonzero(values >= x_min)


def test_all_values_are_the_tail_of_an_exact_law():
    values = (1 - (np.arange(50) + 0.5) / 50) ** (-1 / 1.5)
    alpha, x_min, ks, n = fit_tail(values)
    assert (x_min, n) == (values[0], 50) and alpha == pytest.approx(2.5, abs=0.1) and ks < 0.03


@pytest.mark.parametrize("scale", [1e-200, 1e-3, 1.0, 1e30])
def test_beside_the_exponent_stand_its_error_and_the_tail_it_was_fitted_to(scale):
    singular = np.sqrt(RNG.pareto(1.5, 30) + 1)
    result = power_law_alpha(np.diag(singular * scale))
    alpha, x_min, ks, n = by_brute_force((singular**2).tolist())
    assert result == pytest.approx(alpha, rel=1e-7)
    expected = {"ks": ks, "xmin": x_min * scale * scale, "n_tail": n, "sigma": (alpha - 1) / math.sqrt(n)}
    assert others(result.extra) == pytest.approx(expected, rel=1e-7)
    slope = np.polyfit(np.log(np.arange(1, 31)), np.log(np.sort(singular**2)[::-1]), 1)[0]
    ranks = power_law_alpha(np.diag(singular * scale), method="rank")
    assert ranks == pytest.approx(-slope, rel=1e-7)
    r = np.corrcoef(np.log(np.arange(1, 31)), np.log(np.sort(singular)[::-1]))[0, 1]
    assert others(ranks.extra) == {"r2": pytest.approx(r**2, rel=1e-7), "first_rank": 1, "last_rank": 30}


@pytest.mark.parametrize("method", ["mle", "rank"])
def test_ten_eigenvalues_are_enough_and_nine_are_not(method):
    values = 0.8 ** np.arange(12)
    for n in (0, 1, 9):
        result = power_law_alpha(np.diag(np.where(np.arange(12) < n, values, 0.0)), method=method)
        assert result.reason.startswith(f"{n} eigenvalue") and result.reason.endswith("too few: a fit needs 10")
    assert math.isfinite(power_law_alpha(np.diag(np.where(np.arange(12) < 10, values, 0.0)), method=method))


@pytest.mark.parametrize("place", [0, 1, 10, 11])
@pytest.mark.parametrize("method", ["mle", "rank"])
def test_one_eigenvalue_that_differs_makes_a_tail(place, method):
    for factor, has_one in ((1.5, True), (1 / 1.5, True), (1 + 1e-8, True), (1 + 1e-10, False), (1.0, False)):
        values = np.ones(12)
        values[place] *= factor
        result = power_law_alpha(np.diag(values), method=method)
        assert math.isfinite(result) == has_one
        assert has_one or result.reason == "all eigenvalues are equal: there is no tail"


def test_samples_are_centred_and_one_sample_leaves_nothing():
    x = RNG.standard_normal((30, 12)) ** 3 + 5.0
    centred = x - x.mean(axis=0)
    assert power_law_alpha(activations(x)) == pytest.approx(power_law_alpha(centred), rel=1e-9)
    assert power_law_alpha(x) != pytest.approx(power_law_alpha(centred), rel=1e-3)
    one = power_law_alpha(activations(x[:1]))
    assert one.reason == "one sample has no variance"
    two = power_law_alpha(activations(x[:2]))
    assert two.reason.startswith("1 eigenvalue")
    one_feature = power_law_alpha(activations(np.ones((20, 1))))
    assert one_feature.reason == "no column varies over the rows"
    tall = activations(np.vstack([x, x[:11]])[:11])
    assert math.isfinite(power_law_alpha(tall))  # ten directions are left of eleven samples
