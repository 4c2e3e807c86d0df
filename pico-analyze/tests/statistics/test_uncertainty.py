"""Intervals that cover, and nulls that say what chance gives."""

import math

import numpy as np
import pytest

from pico_analyze.errors import UsageError
from pico_analyze.matrices.factored import Concatenated, Factor, Factored
from pico_analyze.matrices.matrix import Dense
from pico_analyze.metrics.spec import METRICS
from pico_analyze.statistics.uncertainty import bootstrap, null


def samples(n, rng, d=6):
    """Two noisy views of the same things; their debiased CKA has a population value."""
    x = rng.standard_normal((n, d)) * np.linspace(0.5, 2, d)
    y = x @ np.linspace(0.2, 1.5, d * d).reshape(d, d) + 2.0 * rng.standard_normal((n, d))
    return Dense(x, samples=True), Dense(y, samples=True)


def test_the_interval_of_debiased_cka_covers_its_population_value():
    # 95 % intervals over 100 data sets: 95 ± 2.2 expected. A bootstrap that repeats samples covers about 60.
    cka = METRICS.get("cka")
    population = cka(*samples(100_000, np.random.default_rng(0)), debiased=True).value
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(100):
        interval = bootstrap(cka, samples(80, rng), {"debiased": True}, n_resamples=60)
        covered += interval["ci_low"] <= population <= interval["ci_high"]
    assert 85 <= covered <= 100


def test_the_spread_is_the_standard_error_of_a_mean_like_metric():
    # near_zero_fraction with an absolute threshold is a mean over samples: its error is known exactly
    rng = np.random.default_rng(0)
    x = Dense(rng.standard_normal((400, 1)), samples=True)
    params = {"relative_to": "none", "threshold": 0.5}
    share = METRICS.get("near_zero_fraction")(x, **params).value
    spread = bootstrap(METRICS.get("near_zero_fraction"), (x,), params, n_resamples=2000)["bootstrap_sd"]
    assert spread == pytest.approx(math.sqrt(share * (1 - share) / 400), rel=0.1)


def test_the_same_seed_draws_the_same_and_another_does_not():
    pair = samples(60, np.random.default_rng(0))
    cka = METRICS.get("cka")
    assert bootstrap(cka, pair, n_resamples=20, seed=3) == bootstrap(cka, pair, n_resamples=20, seed=3)
    assert bootstrap(cka, pair, n_resamples=20, seed=3) != bootstrap(cka, pair, n_resamples=20, seed=4)
    assert null(cka, pair, n_draws=20, seed=3) == null(cka, pair, n_draws=20, seed=3)


def test_more_samples_give_a_narrower_interval_around_the_value():
    cka = METRICS.get("cka")
    widths = []
    for n in (50, 800):
        pair = samples(n, np.random.default_rng(0))
        interval = bootstrap(cka, pair, n_resamples=50)
        assert interval["ci_low"] < cka(*pair).value < interval["ci_high"]
        assert interval["bootstrap_n"] == 50
        widths.append(interval["ci_high"] - interval["ci_low"])
    assert widths[1] < widths[0] / 2


def test_samples_of_a_circuit_are_resampled_together_in_all_heads():
    rng = np.random.default_rng(0)
    values = Factor(rng.standard_normal((40, 2)))
    heads = [Factored(values, rng.standard_normal((8, 2)), samples=True) for _ in range(2)]
    whole = Concatenated(heads)
    other = Dense(whole.dense() + rng.standard_normal(whole.shape), samples=True)
    cka = METRICS.get("cka")
    factored = bootstrap(cka, (whole, other), n_resamples=10)
    dense = bootstrap(cka, (Dense(whole.dense(), samples=True), other), n_resamples=10)
    assert factored == pytest.approx(dense, rel=1e-9)


def test_what_has_no_samples_has_no_bootstrap():
    weights = Dense(np.eye(5))
    with pytest.raises(UsageError, match="only activations have"):
        bootstrap(METRICS.get("gini"), (weights,))
    with pytest.raises(UsageError, match="at least 2"):
        bootstrap(METRICS.get("cka"), samples(20, np.random.default_rng(0)), n_resamples=1)


def test_an_undefined_value_has_an_undefined_interval_and_null():
    constant = Dense(np.ones((20, 3)), samples=True)
    interval = bootstrap(METRICS.get("cka"), (constant, constant), n_resamples=5)
    assert math.isnan(interval["ci_low"]) and interval["bootstrap_n"] == 0
    assert math.isnan(null(METRICS.get("cka"), (constant, constant), n_draws=5)["null_p"])


def test_permutation_breaks_the_match_of_samples():
    pair = samples(200, np.random.default_rng(0))
    result = null(METRICS.get("cka"), pair, {"debiased": True}, n_draws=99)
    assert result["null_mean"] == pytest.approx(0.0, abs=0.02)
    assert result["null_p"] == pytest.approx(1 / 100)
    assert result["null_q05"] < result["null_mean"] < result["null_q95"]
    assert result["null_n"] == 99


def test_p_values_of_unrelated_data_are_uniform():
    rng = np.random.default_rng(0)
    unrelated = [tuple(Dense(rng.standard_normal((40, 3)), samples=True) for _ in range(2)) for _ in range(60)]
    for name, params in (("cka", {}), ("procrustes", {})):
        p = [null(METRICS.get(name), pair, params, n_draws=39, seed=i)["null_p"] for i, pair in enumerate(unrelated)]
        assert 0.35 < np.mean(p) < 0.65
        assert np.mean(np.array(p) <= 0.2) < 0.4


def test_a_distance_is_extreme_when_it_is_small():
    pair = samples(60, np.random.default_rng(0))
    assert null(METRICS.get("procrustes"), pair, n_draws=19)["null_p"] == pytest.approx(1 / 20)


def test_shuffling_entries_destroys_the_spectrum_and_keeps_the_distribution():
    rng = np.random.default_rng(0)
    low_rank = Factored(rng.standard_normal((30, 2)), rng.standard_normal((20, 2)))
    per = METRICS.get("per")
    shuffled = null(per, (low_rank,), n_draws=19)
    assert shuffled["null_mean"] > 5 * per(low_rank).value
    assert shuffled["null_p"] == pytest.approx(0.1)  # two-sided: 2 · 1/20
    same = null(METRICS.get("gini"), (low_rank,), n_draws=9)
    assert same["null_q05"] == pytest.approx(METRICS.get("gini")(low_rank).value, rel=1e-9)
    assert same["null_p"] == 1.0


def test_random_init_keeps_architecture_and_size():
    rng = np.random.default_rng(0)
    learned = Factored(
        np.outer(np.ones(30), [1.0, 0.0, 0.0]) + 0.1 * rng.standard_normal((30, 3)), rng.standard_normal((20, 3))
    )
    per = METRICS.get("per")
    result = null(per, (learned,), kind="random_init", n_draws=50)
    assert per(learned).value < result["null_q05"] < result["null_q95"] <= 3 / 20  # still of rank three
    size = null(METRICS.get("norm"), (learned,), kind="random_init", n_draws=200)["null_mean"]
    left, right = (np.mean(f.array**2) for f in (learned.left, learned.right))
    assert size == pytest.approx(math.sqrt(30 * 20 * 3 * left * right), rel=0.05)


def test_no_draws_are_refused():
    with pytest.raises(UsageError, match="at least 1"):
        null(METRICS.get("gini"), (Dense(np.eye(3)),), n_draws=0)
