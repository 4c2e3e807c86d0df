"""Dead and dense neurons and massive activations: counted by hand, on laws whose shares are known, and of runs.

The oracles are loops over neurons and samples, written from the definitions.
"""

from __future__ import annotations

import json
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm as normal
from synthetic import SPEC, make_run

import pico_analyze
from pico_analyze.errors import UsageError
from pico_analyze.matrices.factored import Concatenated, Factored
from pico_analyze.matrices.matrix import activations
from pico_analyze.metrics import dead_fraction, dense_fraction, massive_activations
from pico_analyze.metrics.spec import METRICS
from pico_analyze.statistics.uncertainty import bootstrap

RNG = np.random.default_rng(3)
drawn = st.tuples(st.integers(0, 2**31), st.integers(1, 20), st.integers(1, 8))


def relu(case):
    """Activations of which many are zero, and some neurons at every sample."""
    seed, n, p = case
    rng = np.random.default_rng(seed)
    return np.maximum(rng.standard_normal((n, p)) - rng.choice([0, 1, 9], p), 0)


@given(drawn)
def test_dead_and_dense_neurons_are_those_a_loop_counts(case):
    matrix = relu(case)
    for threshold, relative_to in ((0.0, "none"), (0.5, "none"), (0.1, "rms"), (1.0, "rms")):
        scale = math.sqrt(np.mean(matrix**2)) if relative_to == "rms" else 1.0
        shares = [sum(abs(a) > threshold * scale for a in column) / len(column) for column in matrix.T]
        dead = dead_fraction(matrix, threshold=threshold, relative_to=relative_to)
        assert dead == sum(share == 0 for share in shares) / len(shares)
        for share in (0.0, 0.1, 0.5, 1.0):
            dense = dense_fraction(matrix, threshold=threshold, relative_to=relative_to, share=share)
            assert dense == sum(one > share + 1e-12 for one in shares) / len(shares)
            assert dense.extra["active"] == pytest.approx(np.mean(shares))
            assert dense + dead <= 1


@given(drawn, st.floats(1e-6, 1e6), st.randoms())
def test_neither_scale_nor_order_changes_who_is_dead(case, scale, chance):
    matrix = relu(case)
    rows, columns = list(range(len(matrix))), list(range(matrix.shape[1]))
    chance.shuffle(rows)
    chance.shuffle(columns)
    changed = -matrix[rows][:, columns] * scale
    for metric in (dead_fraction, dense_fraction):
        assert metric(changed, threshold=0.3) == metric(matrix, threshold=0.3)


def test_the_dense_share_of_a_normal_law_is_known():
    matrix = RNG.standard_normal((20_000, 10)) * 7
    active = 2 * normal.sf(0.5)
    result = dense_fraction(matrix, threshold=0.5, share=active - 0.02)
    assert result == 1.0 and result.extra["active"] == pytest.approx(active, abs=0.005)
    assert dense_fraction(matrix, threshold=0.5, share=active + 0.02) == 0.0


def test_nothing_is_active_in_zeros_and_everything_at_one_value():
    assert dead_fraction(np.zeros((3, 4))) == 1.0 and dense_fraction(np.zeros((3, 4))) == 0.0
    assert dead_fraction(np.ones((3, 4))) == 0.0 and dense_fraction(np.ones((3, 4))) == 1.0


def test_few_different_samples_are_warned_of_where_neurons_look_dead():
    some = np.column_stack([RNG.standard_normal((200, 3)), np.zeros(200)])
    assert dead_fraction(some) == 0.25 and dead_fraction(some).warning is None
    repeated = some[np.arange(200) % 50]
    assert dead_fraction(repeated).extra["distinct"] == 50
    assert "fewer than 100 different samples" in str(dead_fraction(repeated).warning)
    assert dead_fraction(repeated[:, :3]).warning is None, "none looks dead"


# -- massive activations


@given(drawn, st.sampled_from([(100.0, 1000.0), (2.0, 3.0), (0.0, 0.0)]))
def test_massive_activations_are_those_a_loop_counts(case, limits):
    seed, n, p = case
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((n, p)) * np.exp(rng.normal(0, 4, (n, p)))
    magnitude, ratio = limits
    median = sorted(abs(a) for a in matrix.ravel())
    half = len(median) // 2
    middle = median[half] if len(median) % 2 else (median[half - 1] + median[half]) / 2
    found = [
        (i, j) for i in range(n) for j in range(p) if abs(matrix[i, j]) > max(magnitude, ratio * middle)
    ]  # fmt: skip
    result = massive_activations(matrix, magnitude=magnitude, ratio=ratio)
    assert result == pytest.approx(len(found) / n) and result.extra["massive"] == len(found)
    assert result.extra["samples"] == len({i for i, _ in found})
    assert result.extra["features"] == len({j for _, j in found})
    assert (result.extra["largest"], result.extra["median"]) == (np.abs(matrix).max(), pytest.approx(middle))


def test_a_massive_activation_is_above_both_limits_of_the_paper():
    matrix = RNG.uniform(0.05, 0.1, (50, 40))
    assert massive_activations(matrix) == 0.0
    matrix[::5, 7] = -150.0
    result = massive_activations(matrix)
    assert result == 0.2 and (result.extra["features"], result.extra["samples"]) == (1, 10)
    assert massive_activations(matrix / 2) == 0.0, "below 100"
    assert massive_activations(matrix + 1) == 0.0, "not a thousand medians"


@given(drawn, st.floats(1e-3, 1e3))
def test_massive_activations_scale_with_the_magnitude_asked_for(case, scale):
    seed, n, p = case
    rng = np.random.default_rng(seed)
    matrix = np.exp(rng.normal(0, 3, (n, p)))
    plain = massive_activations(matrix, magnitude=1.0, ratio=2.0)
    assert massive_activations(matrix * scale, magnitude=scale * (1 - 1e-12), ratio=2.0) == pytest.approx(
        float(massive_activations(matrix, magnitude=1 - 1e-12, ratio=2.0)), abs=1 / n
    )
    assert 0 <= plain <= p


# -- forms, intervals, runs


def test_products_are_counted_as_their_dense_form_is():
    parts = [Factored(RNG.standard_normal((30, 2)), RNG.standard_normal((5, 2)), samples=True) for _ in range(3)]
    for factored in (parts[0], Concatenated(parts)):
        for metric in (dead_fraction, dense_fraction, massive_activations):
            params = {"magnitude": 1.0, "ratio": 1.0} if metric is massive_activations else {"threshold": 0.8}
            assert metric(factored, **params) == metric(factored.dense(), **params)


def test_a_dead_neuron_has_no_bootstrap_and_the_others_an_interval():
    matrix = activations(relu((1, 64, 12)))
    with pytest.raises(UsageError, match="decided by the largest activation of each neuron"):
        bootstrap(METRICS.get("dead_fraction"), (matrix,), {}, 20, positions=4)
    for name, params in (("dense_fraction", {}), ("massive_activations", {"magnitude": 1.0, "ratio": 2.0})):
        interval = bootstrap(METRICS.get(name), (matrix,), params, 40, positions=4)
        value = METRICS.get(name)(matrix, **params)
        assert interval["bootstrap_rows"] == 16 and interval["ci_low"] <= value <= interval["ci_high"]


def test_the_interval_of_a_mean_of_rows_covers_it():
    """Massive entries of a row come together: rows are the sample."""
    held, params = 0, {"magnitude": 5.0, "ratio": 0.0}
    for seed in range(150):
        rng = np.random.default_rng(seed)
        burst = np.repeat(rng.random(40) < 0.3, 4)  # all four positions of a row, or none
        matrix = rng.uniform(0, 1, (160, 5))
        matrix[burst, 0] = 10.0
        interval = bootstrap(METRICS.get("massive_activations"), (activations(matrix),), params, 40, positions=4)
        held += interval["ci_low"] <= 0.3 <= interval["ci_high"]
    assert held >= 0.88 * 150


@pytest.fixture
def with_inner_sites(runs):
    """A run called demo that captured what projections take in."""
    make_run(runs, captured=("attn.z", "attn.o", "mlp.act", "resid"))


@pytest.mark.usefixtures("with_inner_sites")
def test_neurons_and_heads_of_a_run_are_measured_by_their_components():
    frame = pico_analyze.compute(["dead_fraction", "dense_fraction"], "runs/demo", component="neurons", steps="last")
    assert (
        set(frame["site"]) == {"mlp.act"}
        and (frame["n_features"] == SPEC.d_ff).all()
        and len(frame) == 2 * SPEC.n_layers
    )
    heads = pico_analyze.compute("anisotropy", "runs/demo", component="head_outputs", steps="last", layers=0)
    assert sorted(heads["head"].dropna()) == list(range(SPEC.n_heads))
    assert set(heads["n_features"]) == {SPEC.d_model, SPEC.head_dim}
    run = pico_analyze.open_run("runs/demo")
    whole = run.read(int(heads["step"].iloc[0]), "val", "activations", "layers.0.attn.z")
    second = heads[heads["head"] == 1]["value"].item()
    own = whole[:, SPEC.head_dim : 2 * SPEC.head_dim]
    assert second == pytest.approx(float(pico_analyze.metrics.anisotropy(own)), rel=1e-9)
    by_site = pico_analyze.compute("massive_activations", "runs/demo", sites=["attn.z", "mlp.act", "resid"])
    assert set(by_site["site"]) == {"attn.z", "mlp.act", "resid"} and by_site["value"].notna().all()


def test_what_was_not_captured_is_said(runs, pico):
    make_run(runs)
    answer = pico("compute", "dead_fraction", "demo", "--component", "neurons", "--no-plot")
    assert answer.code == 3 and "holds no val activations for component 'neurons'" in answer.error


@pytest.mark.usefixtures("with_inner_sites")
@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["dead_fraction", "--data", "weights"], 2, "metric 'dead_fraction' is not defined for weights"),
        (["dead_fraction", "--bootstrap", "50"], 2, "leave --bootstrap out for it"),
        (["dense_fraction", "-p", "share=1.5"], 2, "share"),
        (["massive_activations", "-p", "ratio=-1"], 2, "ratio"),
        (["anisotropy", "--component", "head_outputs", "--data", "gradients"], 2, "has no gradients"),
        (["anisotropy", "--data", "gradients", "--site", "attn.z"], 2, "not defined for gradients"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(pico, options, code, said):
    answer = pico("compute", *options, "demo", "--no-plot")
    assert answer.code == code and said in answer.error


@pytest.mark.usefixtures("with_inner_sites")
def test_rows_of_the_table_have_intervals_of_rows(pico):
    answer = pico("compute", "dense_fraction", "anisotropy", "demo", "--steps", "last", "--site", "mlp.act",
                  "--bootstrap", "20", "--format", "json", "--no-plot")  # fmt: skip
    assert answer.code == 0, answer.err
    for row in json.loads(answer.out):
        assert row["ci_low"] <= row["ci_high"]


@settings(max_examples=25)
@given(st.integers(0, 2**31))
def test_more_samples_never_make_a_neuron_dead(seed):
    matrix = relu((seed, 20, 8))
    shares = [dead_fraction(matrix[:n], threshold=0.0) for n in range(1, 21)]
    assert all(before >= after for before, after in pairwise(shares))
