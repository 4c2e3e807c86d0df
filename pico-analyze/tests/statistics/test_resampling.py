"""Intervals and chance of metrics whose values are given: what is drawn, and the numbers that follow by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t as student

from pico_analyze.errors import UsageError
from pico_analyze.matrices.matrix import Dense
from pico_analyze.metrics.resampling import Resampling, as_a_correlation, as_it_is
from pico_analyze.metrics.spec import METRICS, MetricSpec, Result
from pico_analyze.parameters import Param
from pico_analyze.statistics.uncertainty import bootstrap, null

X = Dense(np.arange(24.0).reshape(8, 3), samples=True)
Y = Dense(np.arange(16.0).reshape(8, 2) ** 2, samples=True)
CKA, GINI, NORM = METRICS.get("cka"), METRICS.get("gini"), METRICS.get("norm")
NAN = math.nan


def rows_of(n: int) -> Dense:
    return Dense(np.arange(2.0 * n).reshape(n, 2), samples=True)


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


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
def test_an_interval_follows_from_the_deviations_of_its_resamples_by_hand(level):
    # Eight rows, two of which are left out of each resample: a deviation counts √3 for the error and 3 for the bias.
    draws = [11.0, 9.0, 12.0, 10.0]
    deviations = np.array(draws) - 10.0
    error, bias = math.sqrt(3) * np.std(deviations, ddof=1), 3 * deviations.mean()
    interval = bootstrap(giving(10.0, draws), (X,), n_resamples=4, level=level)
    assert interval["bootstrap_sd"] == pytest.approx(error) and interval["bootstrap_bias"] == pytest.approx(bias) == 1.5
    reach = student.ppf(0.5 + level / 2, 7) * error  # R − 1 degrees of freedom
    assert interval["ci_low"] == pytest.approx(10 - bias - reach)  # corrected for all of the bias
    assert interval["ci_high"] == pytest.approx(10 - bias / 2 + reach)  # and for half of it
    assert (interval["bootstrap_n"], interval["bootstrap_rows"]) == (4, 8)


def test_a_bias_below_zero_is_corrected_upwards():
    interval = bootstrap(giving(10.0, [9.0, 9.0, 9.0, 9.0]), (X,), n_resamples=4)
    assert (interval["ci_low"], interval["ci_high"]) == pytest.approx((11.5, 13.0)) and interval["bootstrap_sd"] == 0


def test_an_interval_aims_for_95_percent_unless_told_otherwise():
    draws = [float(draw) for draw in range(200)]
    assert bootstrap(giving(0.0, draws), (X,)) == bootstrap(giving(0.0, draws), (X,), n_resamples=200, level=0.95)


def test_of_rows_that_are_no_multiple_of_four_each_resample_counts_by_its_own_size():
    # Five rows: the first of the four groups has two, the others one; 3/2 and 4 are rows kept over rows left out.
    one = bootstrap(giving(0.0, [1.0, 0.0, 0.0, 0.0]), (rows_of(5),), n_resamples=4)
    other = bootstrap(giving(0.0, [0.0, 1.0, 0.0, 0.0]), (rows_of(5),), n_resamples=4)
    assert (one["bootstrap_bias"], other["bootstrap_bias"]) == pytest.approx((1.5 / 4, 4 / 4))


def test_a_correlation_has_its_interval_on_the_scale_of_fisher():
    def values(draws, value):
        given = replace(giving(value, draws), resampling=as_a_correlation)
        return bootstrap(given, (X,), n_resamples=4)

    draws = [0.6, 0.7, 0.8, 0.9]
    here, there = values(draws, 0.75), bootstrap(giving(np.arctanh(0.75), list(np.arctanh(draws))), (X,), n_resamples=4)
    assert np.arctanh([here["ci_low"], here["ci_high"]]) == pytest.approx([there["ci_low"], there["ci_high"]])
    assert here["bootstrap_sd"] == pytest.approx(math.sqrt(3) * np.std(draws, ddof=1))  # in units of the value
    assert -1 < here["ci_low"] < here["ci_high"] < 1
    same = values([1.0, 1.0, 1.0, 1.0], 1.0)
    assert (same["ci_low"], same["ci_high"]) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("value", "draws", "reason"),
    [
        (1.0, [1.0, 3.0], None),
        (1.0, [1.0, NAN, 3.0], None),
        (1.0, [1.0, NAN], "1 resample of 2, of three quarters of the rows, have a value: there are too few rows"),
        (1.0, [1.0, 2.0, NAN, NAN, NAN], "2 resamples of 5, of three quarters"),
        (1.0, [1.0, math.inf], "1 resample of 2"),
        (1.0, [NAN, NAN], "0 resamples of 2"),
        (NAN, [], "there is no value"),
        (math.inf, [], "there is no value"),
    ],
)
def test_an_interval_needs_a_value_and_half_of_its_resamples_to_have_one(value, draws, reason):
    interval = bootstrap(giving(value, draws), (X,), n_resamples=max(2, len(draws)))
    assert interval["bootstrap_n"] == sum(map(math.isfinite, draws))
    for name in ("ci_low", "ci_high", "bootstrap_sd", "bootstrap_bias"):
        assert math.isfinite(interval[name]) == (reason is None)
    assert interval.get("ci_reason", "").startswith(reason or "")


@pytest.mark.parametrize(("n_rows", "positions"), [(8, 1), (9, 1), (2, 3), (3, 2), (6, 4)])
def test_a_resample_leaves_a_group_of_whole_rows_out_in_their_order_and_the_same_of_both_matrices(n_rows, positions):
    seen: list = []
    n = n_rows * positions
    x, y = np.arange(2.0 * n).reshape(n, 2), np.arange(n)[:, None] * 2.0
    pair = (Dense(x, samples=True), Dense(y, samples=True))
    bootstrap(watching(seen, "pair"), pair, n_resamples=20, positions=positions)
    assert len(seen) == 21
    n_groups = min(4, n_rows)
    left_out = []
    for one, other in seen[1:]:
        samples = (one[:, 0] / 2).astype(int)
        rows = samples.reshape(-1, positions)[:, 0] // positions
        assert np.array_equal(samples, (rows[:, None] * positions + np.arange(positions)).ravel())
        assert (np.diff(rows) > 0).all()
        assert np.array_equal(one, x[samples]) and np.array_equal(other, y[samples])
        left_out.append(set(range(n_rows)) - set(rows.tolist()))
    for cut in range(0, 20 - n_groups + 1, n_groups):  # the groups of one cut are all rows, each once
        groups = left_out[cut : cut + n_groups]
        assert sorted(row for group in groups for row in group) == list(range(n_rows))
        assert max(map(len, groups)) - min(map(len, groups)) <= 1


def test_values_that_grow_with_the_samples_are_scaled_to_all_of_them():
    # Every row is the same: a part of them has the same norm but for its size, so that nothing varies.
    same = Dense(np.tile([3.0, 4.0], (12, 1)), samples=True)
    for kind in ("frobenius", "spectral", "nuclear"):
        interval = bootstrap(NORM, (same,), {"kind": kind}, n_resamples=8, positions=2)
        assert interval["ci_low"] == pytest.approx(5 * math.sqrt(12)) == pytest.approx(interval["ci_high"])


def test_parameters_that_count_samples_shrink_with_them():
    seen: list[int] = []

    def keep(_, __, *, k):
        seen.append(k)
        return Result(0.0)

    params = {"k": Param(8, "how many", low=1)}
    counting = replace(spec(keep, "pair", "high"), params=params, resampling=lambda _: Resampling(counts=("k",)))
    bootstrap(counting, (X, Y), n_resamples=4)
    bootstrap(counting, (X, Y), {"k": 1}, n_resamples=4)
    assert seen == [8, 6, 6, 6, 6, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("metric", "params"), [("norm", {"kind": "max_abs"}), ("near_zero_fraction", {"relative_to": "max"})]
)
def test_a_largest_entry_has_no_bootstrap(metric, params):
    with pytest.raises(UsageError, match=f"metric '{metric}' is here .* largest entry, of whose error resamples tell"):
        bootstrap(METRICS.get(metric), (X,), params)
    assert math.isfinite(bootstrap(METRICS.get(metric), (X,), n_resamples=8)["ci_low"])


def test_one_row_has_neither_an_interval_nor_chance():
    interval, chance = bootstrap(CKA, (X, Y), positions=8), null(CKA, (X, Y), positions=8)
    assert math.isnan(interval["ci_low"]) and interval["bootstrap_rows"] == 1
    assert interval["ci_reason"] == "all samples are of one row, and rows are what varies: capture more of them"
    assert math.isnan(chance["null_p"]) and chance["null_reason"].startswith("all samples are of one row, which has no")


@pytest.mark.parametrize("positions", [0, 3, 16, -1])
def test_samples_that_are_not_of_such_rows_are_refused(positions):
    for ask in (bootstrap, null):
        with pytest.raises(UsageError, match="8 samples are not of rows with"):
            ask(CKA, (X, Y), positions=positions)


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


def test_permutations_are_of_whole_rows_with_their_positions_in_order():
    seen: list = []
    null(watching(seen, "pair"), (X, Y), n_draws=30, positions=2)
    orders = set()
    for x, y in seen[1:]:
        places = np.sqrt(y[:, 0] / 4).round().astype(int).reshape(4, 2) * 1  # Y holds squares of 0, 2, 4, …
        assert np.array_equal(x, X.dense()) and np.array_equal(places[:, 1], places[:, 0] + 1)
        orders.add(tuple(places[:, 0] // 2))
    assert len(orders) > 10 and all(sorted(order) == [0, 1, 2, 3] for order in orders)


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


@pytest.mark.parametrize(
    ("value", "draws", "reason"), [(NAN, [], "there is no value"), (1.0, [NAN, NAN], "no draw has a value")]
)
def test_no_value_or_no_draw_with_one_has_no_chance(value, draws, reason):
    chance = null(giving(value, draws), (X,), n_draws=max(1, len(draws)))
    assert (chance.pop("null_n"), chance.pop("null_reason")) == (0, reason)
    assert set(chance) == {"null_mean", "null_q05", "null_q95", "null_p"} and all(map(math.isnan, chance.values()))


def test_a_value_of_which_nothing_is_said_is_none_of_the_special_kinds():
    plain = Resampling(grows=0.0, counts=(), correlation=False, refused=None, together=None)
    assert as_it_is({}) == Resampling() == plain
    assert as_a_correlation({}) == Resampling(correlation=True) != plain
