"""Metrics of data of few directions do not see in which type it was stored."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import subspace_angles
from scipy.stats import entropy
from statsmodels.multivariate.cancorr import CanCorr

from pico_analyze.engine.rows import _number
from pico_analyze.matrices.factored import Factored
from pico_analyze.matrices.matrix import Dense, activations
from pico_analyze.metrics.spec import METRICS
from pico_analyze.stored import marked

TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
RNG = np.random.default_rng(31)


def stored(array, name, *, samples=True):
    """Activations as they are read from a file that holds this type."""
    held = torch.from_numpy(np.ascontiguousarray(array)).to(TYPES[name]).to(torch.float32).numpy()
    return Dense(marked(held, name), samples=samples)


def few_directions(rng, n=400, d=12, wide=48):
    """Two representations of d directions in a wider space, as `mlp.up` is one of the residual stream; their
    directions agree from little to almost."""
    shared, agreement = rng.standard_normal((n, d)), np.linspace(0.2, 0.95, d)
    other = shared * agreement + rng.standard_normal((n, d)) * np.sqrt(1 - agreement**2)
    return tuple(side @ rng.standard_normal((d, wide)) for side in (shared, other))


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("metric", ["mean_cca", "svcca", "pwcca"])
def test_canonical_correlations_are_those_before_rounding(metric, name):
    x, y = few_directions(RNG)
    before = METRICS.get(metric)(x, y)
    result = METRICS.get(metric)(stored(x, name), stored(y, name))
    assert (result.extra["k"], result.extra["k_target"]) == (before.extra["k"], before.extra["k_target"])
    assert result == pytest.approx(before, abs={"bfloat16": 5e-3, "float16": 1e-4, "float32": 1e-6}[name])
    facts = [result.extra[f"{fact}{side}"] for side in ("", "_target") for fact in ("rank", "stored")]
    assert facts == [12, name, 12, name]
    assert before.extra["stored"] == "float64"


def test_mean_cca_is_statsmodels_of_the_directions_that_there_are():
    n, d = 400, 12
    x, y = few_directions(RNG, n, d)
    exact = CanCorr(x @ np.linalg.svd(x)[2][:d].T, y @ np.linalg.svd(y)[2][:d].T).cancorr.mean()
    assert METRICS.get("mean_cca")(x, y) == pytest.approx(exact, rel=1e-9)
    assert METRICS.get("mean_cca")(stored(x, "float32"), stored(y, "float32")) == pytest.approx(exact, abs=1e-6)
    as_held = METRICS.get("mean_cca")(x.astype(np.float32).astype(float), y.astype(np.float32).astype(float))
    assert as_held.extra["k"] == 48 and abs(as_held - exact) > 0.1  # taken for doubles, rounding has 36 directions


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_subspaces_are_those_before_rounding_and_rounding_is_none(side, name):
    x, y = few_directions(RNG)
    y = x + 0.3 * y
    overlap = METRICS.get("subspace_overlap")
    before = overlap(activations(x), activations(y), k=6, side=side)
    result = overlap(stored(x, name), stored(y, name), k=6, side=side)
    assert result == pytest.approx(before, abs={"bfloat16": 5e-3, "float16": 1e-3, "float32": 1e-6}[name])
    bases = [np.linalg.svd(m - m.mean(axis=0))[0 if side == "left" else 2] for m in (x, y)]
    leading = [base[:, :6] if side == "left" else base[:6].T for base in bases]
    assert before == pytest.approx(np.mean(np.cos(subspace_angles(*leading)) ** 2), rel=1e-9)
    too_many = overlap(stored(x, name), stored(y, name), k=13)
    assert too_many.reason == "the first matrix has rank 12, below k = 13"


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("metric", ["effective_rank", "per", "stable_rank", "participation_ratio", "rankme"])
def test_spectra_are_those_before_rounding(metric, name):
    x, _ = few_directions(RNG, n=600, d=10, wide=200)
    for samples in (False, True):
        before = METRICS.get(metric)(activations(x) if samples else x)
        result = METRICS.get(metric)(stored(x, name, samples=samples))
        assert result == pytest.approx(before, rel=1e-3)
        assert result.extra["rank"] == 10 and result.extra["stored"] == name and result.extra["tolerance"] > 0


def test_effective_rank_is_scipys_entropy_of_the_true_directions():
    x, _ = few_directions(RNG, n=600, d=10, wide=200)
    s = np.linalg.svd(x, compute_uv=False)[:10]
    rounded = stored(x, "bfloat16", samples=False)
    assert METRICS.get("effective_rank")(rounded) == pytest.approx(math.exp(entropy(s)), rel=1e-3)
    all_of_them = np.linalg.svd(np.asarray(rounded.array, float), compute_uv=False)
    assert math.exp(entropy(all_of_them)) > 1.05 * math.exp(entropy(s))  # what counting rounding would give


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("params", [{}, {"method": "rank"}, {"ks": "one_sided"}])
def test_the_tail_of_a_spectrum_ends_where_rounding_begins(params, name):
    n, d, wide = 500, 24, 120
    u, v = (np.linalg.qr(RNG.standard_normal((size, d)))[0] for size in (n, wide))
    x = 100 * (u * np.arange(1, d + 1) ** -0.75) @ v.T
    alpha = METRICS.get("power_law_alpha")
    before, result = alpha(x, **params), alpha(stored(x, name, samples=False), **params)
    assert result.extra["rank"] == before.extra["rank"] == d
    assert result == pytest.approx(before, rel=0.02)


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(60, 200),
    d=st.integers(2, 10),
    wide=st.integers(12, 150),
    name=st.sampled_from(sorted(TYPES)),
    scale=st.sampled_from([1e-20, 0.01, 1.0, 1e20]),
)
def test_the_mean_correlation_of_rounded_data_is_that_before_whatever_its_shape_and_scale(
    seed, n, d, wide, name, scale
):
    if name == "float16":
        scale = 1.0  # it holds neither of the others
    x, y = few_directions(np.random.default_rng(seed), n, d, wide)
    before = METRICS.get("mean_cca")(x, y)
    sides = stored(x * scale, name), stored(y * scale, name)
    result = METRICS.get("mean_cca")(*sides)
    assert result.extra["k"] <= d and result.extra["k_target"] <= d
    least = min(side.centred().singular_values[d - 1] / side.centred().tolerance for side in sides)
    if least > 20:  # else the least of the directions may be lost, or be half noise
        assert result.extra["k"] == result.extra["k_target"] == d
        assert result == pytest.approx(before, abs=5e-3)


def test_the_condition_is_over_directions_that_are_more_than_rounding_of_the_stored_type():
    values = np.r_[np.linspace(1, 2, 20), np.full(10, 1e-5)]
    u, v = (np.linalg.qr(RNG.standard_normal((size, 30)))[0] for size in (90, 30))
    x = (u * values) @ v.T
    condition = METRICS.get("condition_number")
    assert condition(x) == pytest.approx(2e5, rel=1e-9) and condition(x).extra["rank"] == 30
    rounded = condition(stored(x, "bfloat16", samples=False))
    assert rounded == pytest.approx(2.0, rel=0.02) and rounded.extra["rank"] == 20
    assert rounded.extra["full"] == condition(stored(x, "bfloat16", samples=False), over="all") == math.inf


def test_what_varies_less_than_its_rounding_has_no_spectrum():
    x = 100 + 0.01 * RNG.standard_normal((50, 8))
    x[0] += 0.5  # something varies in bfloat16, too
    for metric in ("effective_rank", "stable_rank"):
        result = METRICS.get(metric)(stored(x, "bfloat16"))
        assert result.reason == "no singular value is above the rounding of bfloat16" and result.extra["rank"] == 0


def test_a_circuit_of_bfloat16_activations_has_the_correlations_of_the_exact_one():
    x, y = few_directions(RNG, wide=24)
    w = RNG.standard_normal((40, 24))
    sides = [Factored(stored(side, "bfloat16").array, w, samples=True) for side in (x, y)]
    marked_sides = [Factored(marked(side.left.array, "bfloat16"), w, samples=True) for side in sides]
    mean_cca = METRICS.get("mean_cca")
    result = mean_cca(*marked_sides)
    assert result == pytest.approx(mean_cca(x @ w.T, y @ w.T), abs=5e-3)
    assert (result.extra["k"], result.extra["stored"]) == (12, "bfloat16")
    assert mean_cca(*sides).extra["k"] == 24  # taken for float32


def test_a_row_holds_the_type_as_text_and_a_result_shows_it():
    result = METRICS.get("effective_rank")(stored(RNG.standard_normal((20, 5)), "bfloat16"))
    cells = json.loads(json.dumps({name: _number(value) for name, value in result.extra.items()}))
    assert cells == dict(result.extra) and cells["stored"] == "bfloat16"
    assert "stored='bfloat16'" in repr(result)
