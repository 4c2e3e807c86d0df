"""Intervals and chance of metrics whose values are given: what is drawn, and the numbers that follow by hand."""

import math

import numpy as np
import pytest

from pico_analyze.errors import UsageError
from pico_analyze.matrices.matrix import Dense
from pico_analyze.metrics.spec import METRICS, MetricSpec, Result
from pico_analyze.statistics.uncertainty import bootstrap, null

X = Dense(np.arange(24.0).reshape(8, 3), samples=True)
Y = Dense(np.arange(16.0).reshape(8, 2) ** 2, samples=True)
CKA, GINI = METRICS.get("cka"), METRICS.get("gini")
NAN = math.nan


def spec(function, kind="single", similar=None) -> MetricSpec:
    words = dict.fromkeys(("definition", "range", "best", "cost", "reference"), "")
    return MetricSpec("given", kind, function, **words, similar=similar)


def giving(value: float, draws: list[float], similar=None) -> MetricSpec:
    """A metric that has this value, and then these on what is drawn."""
    values = iter([value, *draws])
    return spec(lambda _: Result(next(values), "none" if NAN in draws else None), similar=similar)


def watching(seen: list, kind: str) -> MetricSpec:
    """A metric that keeps what it was called with."""

    def keep(*matrices):
        seen.append([matrix.dense().copy() for matrix in matrices])
        return Result(0.0)

    return spec(keep, kind, "high" if kind == "pair" else None)


@pytest.mark.parametrize(("level", "reach"), [(0.5, 1.0), (0.75, 1.5), (0.9, 1.8)])
def test_an_interval_is_the_value_plus_the_quantiles_of_the_deviations(level, reach):
    # Deviations −2 to 2: their quantile at (1 − level)/2 lies 4·(1 − level)/2 above −2.
    interval = bootstrap(giving(10.0, [1.0, 2.0, 3.0, 4.0, 5.0]), (X,), n_resamples=5, level=level)
    assert interval["ci_low"] == pytest.approx(10 - reach) and interval["ci_high"] == pytest.approx(10 + reach)
    assert interval["bootstrap_sd"] == pytest.approx(math.sqrt(2.5))
    assert interval["bootstrap_n"] == 5


def test_an_interval_aims_for_95_percent_unless_told_otherwise():
    draws = [float(draw) for draw in range(201)]
    interval = bootstrap(giving(0.0, draws), (X,), n_resamples=201)
    assert (interval["ci_low"], interval["ci_high"]) == pytest.approx((-95.0, 95.0))


@pytest.mark.parametrize(
    ("value", "draws", "defined"),
    [
        (1.0, [1.0, 3.0], True),
        (1.0, [1.0, NAN, 3.0], True),
        (1.0, [1.0, NAN], False),
        (1.0, [1.0, math.inf], False),
        (1.0, [NAN, NAN], False),
        (NAN, [1.0, 3.0], False),
        (math.inf, [1.0, 3.0], False),
    ],
)
def test_an_interval_needs_a_value_and_two_resamples_that_have_one(value, draws, defined):
    interval = bootstrap(giving(value, draws), (X,), n_resamples=len(draws))
    assert interval["bootstrap_n"] == sum(map(math.isfinite, draws))
    for name in ("ci_low", "ci_high", "bootstrap_sd"):
        assert math.isfinite(interval[name]) == defined
    if defined:  # deviations −1 and 1, of which 95 %
        assert (interval["ci_low"], interval["ci_high"]) == pytest.approx((1 - 0.95, 1 + 0.95))


@pytest.mark.parametrize("n", [8, 9])
def test_a_resample_is_half_of_the_samples_in_their_order_without_repeats_and_the_same_of_both_matrices(n):
    seen: list = []
    x, y = np.arange(2.0 * n).reshape(n, 2), np.arange(n)[:, None] * 2.0
    bootstrap(watching(seen, "pair"), (Dense(x, samples=True), Dense(y, samples=True)), n_resamples=20)
    assert len(seen) == 21
    chosen = [one[:, 0] / 2 for one, _ in seen[1:]]
    for rows, (one, other) in zip(chosen, seen[1:], strict=True):
        assert len(rows) == n // 2 and (np.diff(rows) > 0).all()
        assert np.array_equal(one, x[rows.astype(int)]) and np.array_equal(other, y[rows.astype(int)])
    assert set(np.concatenate(chosen)) == set(range(n))


def test_the_draws_of_a_seed_depend_on_the_number_of_samples_alone():
    narrow, wide = [], []
    bootstrap(watching(narrow, "single"), (Dense(X.dense()[:, :1], samples=True),), n_resamples=9, seed=5)
    bootstrap(watching(wide, "single"), (X,), n_resamples=9, seed=5)
    assert all(np.array_equal(one[:, 0], other[:, 0]) for (one,), (other,) in zip(narrow, wide, strict=True))


def test_a_bootstrap_that_is_not_told_how_has_200_resamples_of_seed_0():
    interval = bootstrap(CKA, (X, Y))
    assert interval["bootstrap_n"] == 200
    assert interval == bootstrap(CKA, (X, Y), n_resamples=200, seed=0, level=0.95)
    assert interval != bootstrap(CKA, (X, Y), seed=1)


def test_chance_that_is_not_told_how_is_100_permutations_of_seed_0():
    chance = null(CKA, (X, Y))
    assert chance["null_n"] == 100
    assert chance == null(CKA, (X, Y), kind="permutation", n_draws=100, seed=0)
    assert chance != null(CKA, (X, Y), seed=1)


@pytest.mark.parametrize("level", [-0.5, 0.0, 1.0, 1.5, NAN])
def test_a_level_that_no_interval_has_is_refused(level):
    with pytest.raises(UsageError, match="does not exist: choose one between 0 and 1"):
        bootstrap(GINI, (X,), n_resamples=5, level=level)


@pytest.mark.parametrize("level", [1e-9, 1 - 1e-9])
def test_a_level_just_within_is_accepted(level):
    interval = bootstrap(GINI, (X,), n_resamples=5, level=level)
    assert interval["ci_low"] < interval["ci_high"]


def test_two_resamples_and_one_draw_are_the_fewest():
    assert bootstrap(GINI, (X,), n_resamples=2)["bootstrap_n"] == 2
    with pytest.raises(UsageError, match="a bootstrap of 1 resamples has no spread"):
        bootstrap(GINI, (X,), n_resamples=1)
    assert null(GINI, (X,), n_draws=1)["null_n"] == 1
    with pytest.raises(UsageError, match="a null distribution of 0 draws says nothing"):
        null(GINI, (X,), n_draws=0)


@pytest.mark.parametrize("kind", ["permutation", "random_init"])
def test_chance_changes_the_second_matrix_of_a_pair_alone(kind):
    seen: list = []
    null(watching(seen, "pair"), (X, Y), kind=kind, n_draws=6)
    assert len(seen) == 7
    for x, y in seen[1:]:
        assert np.array_equal(x, X.dense())
        assert y.shape == Y.shape and not np.array_equal(y, Y.dense())
        if kind == "permutation":  # the same rows in another order
            assert np.array_equal(y[np.argsort(y[:, 0])], Y.dense())


def test_chance_of_one_matrix_shuffles_its_entries():
    seen: list = []
    null(watching(seen, "single"), (X,), n_draws=3)
    for (x,) in seen[1:]:
        assert np.array_equal(np.sort(x, axis=None), np.arange(24.0)) and not np.array_equal(x, X.dense())
        assert not np.array_equal(np.sort(x, axis=1), X.dense())


@pytest.mark.parametrize(
    ("similar", "draws", "p"),
    [
        ("high", [0.0, 1.0, 2.0, 3.0], 3 / 5),  # 2 and 3, and the value itself
        ("low", [0.0, 1.0, 2.0, 3.0], 4 / 5),  # 0, 1 and 2
        ("high", [0.0, 1.0, 1.5], 1 / 4),
        ("low", [0.0, 1.0, 1.5], 1.0),
        (None, [0.0, 1.0, 2.0, 3.0], 1.0),
        (None, [0.0, 1.0, 1.5], 2 / 4),
        (None, [3.0] * 9, 2 / 10),
        ("high", [0.0, NAN, 3.0], 2 / 3),  # of the draws that have a value
    ],
)
def test_the_probability_counts_the_draws_at_least_as_extreme_and_the_value_itself(similar, draws, p):
    chance = null(giving(2.0, draws, similar), (X,), n_draws=len(draws))
    assert chance["null_p"] == pytest.approx(p)
    known = [draw for draw in draws if not math.isnan(draw)]
    assert chance["null_n"] == len(known) and chance["null_mean"] == pytest.approx(sum(known) / len(known))


def test_the_quantiles_of_chance_are_those_at_5_and_95_percent():
    chance = null(giving(0.0, [float(draw) for draw in range(101)]), (X,), n_draws=101)
    assert (chance["null_q05"], chance["null_q95"]) == pytest.approx((5.0, 95.0))


@pytest.mark.parametrize(
    ("value", "draw", "equal"),
    [
        (0.0, 1e-12, True),
        (0.0, 1.01e-12, False),
        (0.5, 0.5 + 9e-13, True),
        (0.5, 0.5 + 2e-12, False),
        (1e6, 1e6 + 9e-7, True),
        (1e6, 1e6 + 2e-6, False),
        (-1e6, -1e6 + 9e-7, True),
    ],
)
def test_a_difference_in_the_last_digits_makes_no_draw_less_extreme(value, draw, equal):
    low = null(giving(value, [draw], "low"), (X,), n_draws=1)["null_p"]
    high = null(giving(-value, [-draw], "high"), (X,), n_draws=1)["null_p"]
    assert low == high == (1.0 if equal else 0.5)


@pytest.mark.parametrize(("value", "draws", "n"), [(NAN, [1.0, 2.0], 2), (1.0, [NAN, NAN], 0), (NAN, [NAN], 0)])
def test_no_value_or_no_draw_with_one_has_no_chance(value, draws, n):
    chance = null(giving(value, draws), (X,), n_draws=len(draws))
    assert chance.pop("null_n") == n
    assert set(chance) == {"null_mean", "null_q05", "null_q95", "null_p"} and all(map(math.isnan, chance.values()))
