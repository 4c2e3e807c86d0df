"""Power laws of spectra: the fit by hand and by brute force, what stands beside it, and where there is none."""

from __future__ import annotations

import math

import numpy as np
import powerlaw
import pytest
from rank_facts import others

from pico_analyze.errors import UsageError
from pico_analyze.matrices.matrix import activations
from pico_analyze.metrics.power_law import fit_tail, power_law_alpha

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:powerlaw")
RNG = np.random.default_rng(51)


def by_brute_force(values):
    """The best fit: exponent, start, largest distance of the two distributions (just before and at each value), count.

    Of several starts at the same distance it is the first; `starts_at_that_distance` lists them.
    """
    ks, x_min, alpha, n = min(all_fits(values), key=lambda fit: fit[0])
    return alpha, x_min, ks, n


def starts_at_that_distance(values, ks):
    return [(alpha, x_min, n) for other, x_min, alpha, n in all_fits(values) if other == pytest.approx(ks, rel=1e-9)]


def all_fits(values):
    fits = []
    for x_min in sorted(set(values))[:-1]:
        tail = sorted(value for value in values if value >= x_min)
        alpha = 1 + len(tail) / sum(math.log(value / x_min) for value in tail)
        law = [1 - (value / x_min) ** (1 - alpha) for value in tail]
        steps = range(len(tail))
        ks = max(max(abs(law[i] - i / len(tail)), abs(law[i] - (i + 1) / len(tail))) for i in steps)
        fits.append((ks, x_min, alpha, len(tail)))
    return fits


def test_of_two_values_the_tail_is_both():
    # 1 + 2/ln 2; the law is at 0 where the data are at 1/2
    assert fit_tail(np.array([2.0, 1.0])) == (pytest.approx(1 + 2 / math.log(2)), 1.0, pytest.approx(0.5), 2)


@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_the_fit_is_the_best_of_all_starts_and_equal_values_stay_together(decimals):
    for _ in range(10):
        values = np.round(RNG.pareto(1.5, 25) + 1, decimals)
        alpha, x_min, ks, n = fit_tail(values)
        assert ks == pytest.approx(by_brute_force(values.tolist())[2], rel=1e-9)
        assert (alpha, x_min, n) in [
            pytest.approx(fit, rel=1e-9) for fit in starts_at_that_distance(values.tolist(), ks)
        ]
        assert n == np.count_nonzero(values >= x_min)


def test_all_values_are_the_tail_of_an_exact_law():
    values = (1 - (np.arange(50) + 0.5) / 50) ** (-1 / 1.5)
    alpha, x_min, ks, n = fit_tail(values)
    assert (x_min, n) == (values[0], 50) and alpha == pytest.approx(2.5, abs=0.1) and ks < 0.03


@pytest.mark.parametrize("scale", [1e-100, 1e-3, 1.0, 1e30])
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


def test_the_one_sided_distance_is_from_the_lower_ends_of_the_steps():
    # Of two values α − 1 = 2/ln 2: the law is at 0 and 1 − e⁻² where the data have 0 and 1/2 below them.
    assert fit_tail(np.array([2.0, 1.0]), "one_sided")[2] == pytest.approx(0.5 - math.exp(-2))
    for _ in range(20):
        values = RNG.pareto(1.5, 30) + 1
        fits = []
        for x_min in sorted(values)[:-1]:
            tail = sorted(value for value in values if value >= x_min)
            alpha = 1 + len(tail) / sum(math.log(value / x_min) for value in tail)
            below = (abs(1 - (value / x_min) ** (1 - alpha) - i / len(tail)) for i, value in enumerate(tail))
            fits.append((max(below), x_min, alpha, len(tail)))
        ks, x_min, alpha, n = min(fits, key=lambda fit: fit[0])
        assert fit_tail(values, "one_sided") == pytest.approx((alpha, x_min, ks, n), rel=1e-9)
        assert fit_tail(values, "one_sided")[2] <= fit_tail(values)[2]


def test_the_one_sided_fit_is_the_powerlaw_packages_with_its_own_choice_of_start():
    for seed in range(4):
        rng = np.random.default_rng(seed)
        values = np.concatenate([rng.pareto(1.0, 120) + 1, rng.uniform(0.1, 1, 40)])
        fit = powerlaw.Fit(values, verbose=False)
        expected = fit.power_law.alpha, fit.xmin, fit.power_law.D, fit.n_tail
        assert fit_tail(values, "one_sided") == pytest.approx(expected, rel=1e-9)
        result = power_law_alpha(np.diag(np.sqrt(values)), ks="one_sided")
        assert (result, result.extra["ks"]) == pytest.approx((expected[0], expected[2]), rel=1e-7)


def spectrum(eigenvalues):
    return np.diag(np.sqrt(eigenvalues))


@pytest.mark.parametrize("weighting", ["none", "inverse_rank"])
@pytest.mark.parametrize(("first", "last"), [(1, 0), (1, 40), (11, 35), (5, 500), (31, 40)])
def test_a_range_of_ranks_is_fitted_by_least_squares_with_or_without_weights(weighting, first, last):
    eigenvalues = np.sort(RNG.pareto(1.2, 40) + 0.1)[::-1]
    end = min(last or 40, 40)
    ranks = np.arange(first, end + 1)
    weights = 1 / ranks if weighting == "inverse_rank" else np.ones(len(ranks))
    # polyfit's weights multiply residuals, which are squared afterwards
    slope = np.polyfit(np.log(ranks), np.log(eigenvalues[first - 1 : end]), 1, w=np.sqrt(weights))[0]
    result = power_law_alpha(
        spectrum(eigenvalues), method="rank", first_rank=first, last_rank=last, weighting=weighting
    )
    assert result == pytest.approx(-slope, rel=1e-9)
    assert (result.extra["first_rank"], result.extra["last_rank"]) == (first, end) and 0 < result.extra["r2"] <= 1


def test_alpha_req_finds_the_exponent_between_the_first_ranks_and_where_the_spectrum_falls_off():
    """Solved as Stringer et al. 2019 do: normal equations with each rank weighted by its inverse."""
    eigenvalues = np.arange(1, 121) ** -1.0
    eigenvalues[:10] *= 5.0
    eigenvalues[100:] *= 0.01
    x = np.stack([-np.log(np.arange(11, 101)), np.ones(90)], axis=1)
    w = 1 / np.arange(11, 101)[:, None]
    b = np.linalg.solve(x.T @ (x * w), (x * w).T @ np.log(eigenvalues[10:100]))
    basis = np.linalg.qr(RNG.standard_normal((300, 121)) - 1.0)[0]
    rows = basis - basis.mean(axis=0)
    rows = np.linalg.qr(rows)[0][:, :120] * np.sqrt(eigenvalues) + 4.0
    asked = {"method": "rank", "first_rank": 11, "last_rank": 100, "weighting": "inverse_rank"}
    assert power_law_alpha(activations(rows), **asked) == pytest.approx(b[0], rel=1e-6) == pytest.approx(1.0)
    assert power_law_alpha(activations(rows), method="rank") != pytest.approx(1.0, rel=0.1)


def test_a_range_of_ranks_needs_ten_and_an_order():
    values = spectrum(0.9 ** np.arange(30))
    few = power_law_alpha(values, method="rank", first_rank=25)
    assert few.reason == "6 eigenvalues above rounding from rank 25 to the last are too few: a fit needs 10"
    beyond = power_law_alpha(values, method="rank", first_rank=31, last_rank=50)
    assert beyond.reason.startswith("0 eigenvalues above rounding from rank 31 to 50")
    assert math.isfinite(power_law_alpha(values, first_rank=25))  # mle has no ranks
    with pytest.raises(UsageError, match="last_rank=5 is below first_rank=11: give a range of ranks"):
        power_law_alpha(values, method="rank", first_rank=11, last_rank=5)


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
