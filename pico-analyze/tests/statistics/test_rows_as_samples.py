"""Positions of one row depend on each other: intervals that cover all the same, and chance that is chance.

The full table, with more simulations and more settings, is made by `benchmarks/bench_coverage.py` and stands in
`docs/uncertainty.md`.
"""

import numpy as np
import pytest
from correlated_rows import POSITIONS, comparable, unrelated
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from pico_analyze.matrices.factored import Concatenated, Factor, Factored
from pico_analyze.matrices.matrix import Dense
from pico_analyze.metrics.alignment_of_subsets import linear_cka_of_subsets
from pico_analyze.metrics.spec import METRICS
from pico_analyze.statistics.uncertainty import bootstrap, null

CORRELATIONS = pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])


def n_covered(metric, params, correlation, *, n_simulated, n_rows):
    """How many of so many 95 % intervals hold what the metric is on very many rows."""
    spec, rng = METRICS.get(metric), np.random.default_rng(1)
    n_matrices = 1 if spec.kind == "single" else 2
    # Pairs of samples are of different rows in the limit, so rows of one position stand for it.
    many = 500 if metric == "rsa" else 20_000
    truth = np.mean(
        [
            spec(*comparable(many, correlation, np.random.default_rng(other), positions=1)[:n_matrices], **params).value
            for other in range(4)
        ]
    )
    found = 0
    for _ in range(n_simulated):
        matrices = comparable(n_rows, correlation, rng)[:n_matrices]
        interval = bootstrap(spec, matrices, params, n_resamples=24, positions=POSITIONS)
        found += interval["ci_low"] <= truth <= interval["ci_high"]
    return found


@CORRELATIONS
@pytest.mark.parametrize(
    ("metric", "params", "n_simulated", "n_rows"),
    [("cka", {"debiased": True}, 100, 32), ("effective_rank", {}, 50, 32), ("rsa", {}, 25, 16)],
)
def test_intervals_cover_at_any_correlation_within_rows(metric, params, n_simulated, n_rows, correlation):
    """As many as 90 % cover of, but for one time in a thousand."""
    covered = n_covered(metric, params, correlation, n_simulated=n_simulated, n_rows=n_rows)
    assert covered >= binom.ppf(0.001, n_simulated, 0.9)


def test_taking_positions_for_rows_covers_about_half_as_the_test_must_see():
    """The check has teeth."""
    rng, spec, found = np.random.default_rng(1), METRICS.get("cka"), 0
    truth = spec(*comparable(20_000, 0.9, np.random.default_rng(0), positions=1), debiased=True).value
    for _ in range(60):
        interval = bootstrap(spec, comparable(32, 0.9, rng), {"debiased": True}, n_resamples=24, positions=1)
        found += interval["ci_low"] <= truth <= interval["ci_high"]
    assert found < 45  # 60 % of 60 are 36


@CORRELATIONS
@pytest.mark.parametrize(("metric", "params"), [("cka", {"debiased": True}), ("rsa", {}), ("procrustes", {})])
def test_unrelated_data_are_rarely_called_related(metric, params, correlation):
    rng, spec, n = np.random.default_rng(2), METRICS.get(metric), 30
    p = [
        null(spec, unrelated(10, correlation, rng), params, n_draws=19, seed=seed, positions=POSITIONS)["null_p"]
        for seed in range(n)
    ]
    assert np.count_nonzero(np.array(p) <= 0.05) <= binom.ppf(0.999, n, 0.05)
    assert 0.3 < np.mean(p) < 0.7


def test_permuting_positions_of_correlated_rows_finds_relations_that_are_not_there():
    rng, spec = np.random.default_rng(2), METRICS.get("cka")
    p = [null(spec, unrelated(10, 0.9, rng), {"debiased": True}, n_draws=19, seed=s)["null_p"] for s in range(20)]
    assert np.count_nonzero(np.array(p) <= 0.05) >= 15


def test_the_standard_error_of_a_mean_is_that_of_the_means_of_rows():
    """near_zero_fraction with an absolute threshold is a mean over samples."""
    (x, _), params = comparable(200, 0.9, np.random.default_rng(0)), {"relative_to": "none", "threshold": 0.5}
    by_row = (np.abs(x.dense()) <= 0.5).mean(axis=1).reshape(-1, POSITIONS).mean(axis=1)
    exact = by_row.std(ddof=1) / np.sqrt(len(by_row))
    found = bootstrap(METRICS.get("near_zero_fraction"), (x,), params, n_resamples=800, positions=POSITIONS)
    assert found["bootstrap_sd"] == pytest.approx(exact, rel=0.1)
    assert found["bootstrap_bias"] == pytest.approx(0.0, abs=1e-12)
    single = bootstrap(METRICS.get("near_zero_fraction"), (x,), params, n_resamples=200)["bootstrap_sd"]
    assert single < 0.6 * exact  # positions taken for samples


@pytest.mark.parametrize("kind", ["frobenius", "spectral"])
def test_norms_have_the_error_of_their_values_on_new_rows(kind):
    rng, spec = np.random.default_rng(3), METRICS.get("norm")
    spread = np.std([spec(comparable(64, 0.9, rng)[0], kind=kind).value for _ in range(200)])
    errors = [
        bootstrap(spec, comparable(64, 0.9, rng)[:1], {"kind": kind}, n_resamples=24, positions=POSITIONS)
        for _ in range(25)
    ]
    assert np.mean([error["bootstrap_sd"] for error in errors]) == pytest.approx(spread, rel=0.2)


@given(
    seed=st.integers(0, 2**32 - 1),
    n_rows=st.integers(5, 14),
    positions=st.integers(1, 4),
    debiased=st.booleans(),
    sides=st.tuples(st.sampled_from(["circuit", "dense"]), st.sampled_from(["circuit", "dense"])),
)
def test_cka_of_many_subsets_at_once_is_cka_of_each(seed, n_rows, positions, debiased, sides):
    rng = np.random.default_rng(seed)
    n = n_rows * positions
    values = Factor(rng.standard_normal((n, 2)))
    of = {
        "circuit": Concatenated([Factored(values, rng.standard_normal((5, 2)), samples=True) for _ in range(2)]),
        "dense": Dense((3.0 + rng.standard_normal((n, 7))).astype(np.float32), samples=True),
    }
    x, y = (of[side] for side in sides)
    kept = np.array([rng.permutation(n_rows) >= left_out for left_out in (0, 1, n_rows - 5)])
    spec = METRICS.get("cka")
    subsets = [np.flatnonzero(np.repeat(rows, positions)) for rows in kept]
    one_by_one = [spec(x.take(rows), y.take(rows), debiased=debiased).value for rows in subsets]
    at_once = linear_cka_of_subsets(x, y, kept, debiased=debiased)
    np.testing.assert_allclose(at_once, one_by_one, rtol=1e-7, atol=1e-9)


def test_blocks_of_kernels_change_no_value(monkeypatch):
    x, y = comparable(20, 0.5, np.random.default_rng(5))
    kept = np.random.default_rng(6).random((6, 20)) < 0.7
    whole = linear_cka_of_subsets(x, y, kept, debiased=True)
    monkeypatch.setattr("pico_analyze.metrics.alignment_of_subsets._BLOCK_ELEMENTS", 1)
    np.testing.assert_allclose(linear_cka_of_subsets(x, y, kept, debiased=True), whole, rtol=1e-12)


def test_a_subset_that_does_not_vary_has_no_cka():
    x = Dense(np.repeat(np.eye(4) + 7.0, 3, axis=0), samples=True)
    kept = np.array([[1, 0, 0, 0], [1, 1, 1, 0]], dtype=bool)
    values = linear_cka_of_subsets(x, x, kept, debiased=False)
    assert np.isnan(values[0]) and values[1] == pytest.approx(1.0)


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("still", ["x", "y", "both"])
def test_subsets_in_which_one_side_does_not_vary_have_no_cka_whatever_its_size(still, scale, debiased):
    """What is left of a difference of equal terms is rounding: of either sign, and of the size of the numbers."""
    rng = np.random.default_rng(8)
    same = np.repeat(rng.standard_normal((1, 5)), 10, axis=0)
    varying, partly = rng.standard_normal((20, 6)), np.concatenate([same, rng.standard_normal((10, 5))])
    x, y = (Dense(scale * (partly if still in (side, "both") else varying), samples=True) for side in ("x", "y"))
    kept = np.zeros((40, 20), dtype=bool)
    for subset in kept:
        subset[rng.permutation(10)[: rng.integers(4, 11)]] = True
    assert np.isnan(linear_cka_of_subsets(x, y, kept, debiased=debiased)).all()
    assert not np.isnan(linear_cka_of_subsets(x, y, ~kept, debiased=debiased)).any()


@pytest.mark.parametrize(("debiased", "fewest"), [(False, 3), (True, 4)])
def test_a_subset_has_as_many_samples_as_its_form_needs(debiased, fewest):
    rng = np.random.default_rng(9)
    x, y = (Dense(rng.standard_normal((8, 5)), samples=True) for _ in range(2))
    kept = np.array([np.arange(8) < n for n in range(2, 8)])
    found = linear_cka_of_subsets(x, y, kept, debiased=debiased)
    assert [bool(np.isnan(value)) for value in found] == [n < fewest for n in range(2, 8)]
