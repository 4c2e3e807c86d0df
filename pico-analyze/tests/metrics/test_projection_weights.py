"""PWCCA's three variants against loops written from what was published, each by another way than the package's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from pico_analyze.matrices.factored import Factored
from pico_analyze.matrices.matrix import Dense
from pico_analyze.metrics.cca import pwcca
from pico_analyze.metrics.projection_weights import projection_weighted

RNG = np.random.default_rng(47)


def related(rng, n, p, q, mean=1.0):
    x = rng.standard_normal((n, p)) * np.linspace(0.5, 2, p)
    y = x[:, : min(p, q)] @ rng.standard_normal((min(p, q), q)) + rng.standard_normal((n, q))
    return x + mean * rng.standard_normal(p), y + mean * rng.standard_normal(q)


def of_the_paper(x, y):
    """Morcos et al. 2018, equations 3 and 4: canonical vectors by the generalised eigenproblem of covariances."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    xx, yy, xy = x.T @ x, y.T @ y, x.T @ y
    count = min(x.shape[1], y.shape[1])
    squares, vectors = scipy.linalg.eigh(xy @ np.linalg.inv(yy) @ xy.T, xx)
    total = weighted = 0.0
    for square, a in list(zip(squares, vectors.T, strict=True))[::-1][:count]:
        variate = x @ a / np.linalg.norm(x @ a)
        alpha = sum(abs(float(variate @ column)) for column in x.T)
        total, weighted = total + alpha, weighted + alpha * math.sqrt(max(0.0, square))
    return weighted / total


def of_the_code(x, y, epsilon=0.0):
    """google/svcca's pwcca.py, neurons by datapoints, step by step; Gram-Schmidt in place of QR."""
    first, second = x.T, y.T
    covariance = np.cov(first, second)
    p = len(first)
    xx, yy, xy = covariance[:p, :p], covariance[p:, p:], covariance[:p, p:]
    if epsilon:
        xmax, ymax = abs(xx).max(), abs(yy).max()
        xx, yy, xy = xx / xmax, yy / ymax, xy / math.sqrt(xmax * ymax)
        large, large_too = (
            [i for i in range(p) if xx[i, i] >= epsilon],
            [i for i in range(len(yy)) if yy[i, i] >= epsilon],
        )
        xx, yy, xy = xx[np.ix_(large, large)], yy[np.ix_(large_too, large_too)], xy[np.ix_(large, large_too)]
        first, second = first[large], second[large_too]
        xx, yy = xx + np.diag([epsilon] * len(xx)), yy + np.diag([epsilon] * len(yy))
    roots = [scipy.linalg.sqrtm(np.linalg.inv(block)).real for block in (xx, yy)]
    u, rho, v = np.linalg.svd(roots[0] @ xy @ roots[1])
    acts, coefficients = (first, u.T) if len(first) <= len(second) else (second, v)
    means = acts.mean(axis=1, keepdims=True)
    basis = []
    for direction in coefficients @ (acts - means) + means:
        left = direction - sum((direction @ b) * b for b in basis)
        left = left - sum((left @ b) * b for b in basis)
        basis.append(left / np.linalg.norm(left))
    weights = [sum(abs(float(b @ neuron)) for neuron in acts) for b in basis]
    return sum(w * r for w, r in zip(weights, rho, strict=True)) / sum(weights)


SHAPES = [(60, 5, 5), (60, 7, 4), (60, 4, 7), (300, 30, 30), (20, 1, 1), (40, 1, 6)]


@pytest.mark.parametrize(("n", "p", "q"), SHAPES)
def test_the_papers_is_its_two_equations(n, p, q):
    x, y = related(RNG, n, p, q)
    assert pwcca(x, y, variance=1.0) == pytest.approx(of_the_paper(x, y), rel=1e-8)
    assert pwcca(x, y, variance=1.0, variant="paper") == pwcca(x, y, variance=1.0)


@pytest.mark.parametrize("mean", [0.0, 1.0, 30.0])
@pytest.mark.parametrize(("n", "p", "q"), SHAPES)
def test_the_codes_is_what_google_svcca_computes(n, p, q, mean):
    x, y = related(RNG, n, p, q, mean)
    result = pwcca(x, y, variant="svcca")
    assert result == pytest.approx(of_the_code(x, y), rel=1e-7)
    assert result.extra["d"] == p and result.warning == pwcca(x, y, variance=1.0).warning


@pytest.mark.parametrize(("n", "p", "q"), [*SHAPES, (128, 96, 96)])
def test_pico_1_0s_is_the_codes_with_its_epsilon_and_none_where_it_failed(n, p, q):
    x, y = related(np.random.default_rng([n, p, q]), n, p, q)
    if p > 30:  # of so many vectors the sign of one may be another by rounding, which matters where there are means
        x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    x, y = x.astype(np.float32), y.astype(np.float32)
    result = pwcca(x, y, variant="pico1")
    if p > q:
        assert result.reason == "pico-analyze 1.0 had no value where the first side has more features"
    else:
        assert result == pytest.approx(of_the_code(*(side.astype(np.float64) for side in (x, y)), 1e-6), abs=1e-6)


def test_pico_1_0_left_features_out_that_hardly_vary():
    x, y = related(np.random.default_rng(3), 80, 6, 8)
    x[:, 2] *= 1e-4
    y[:, [1, 5]] *= 1e-4
    found = float(pwcca(x, y, variant="pico1"))
    assert found == pytest.approx(of_the_code(x, y, 1e-6), abs=1e-7)
    assert abs(found - float(pwcca(x, y, variant="svcca"))) > 1e-3


def test_the_variants_differ_by_the_weights_alone():
    rng = np.random.default_rng(5)
    x, y = related(rng, 200, 6, 6)
    values = [float(pwcca(x, y, variance=1.0, variant=variant)) for variant in ("paper", "svcca", "pico1")]
    assert abs(values[0] - values[1]) > 1e-3 and values[1] == pytest.approx(values[2], abs=1e-4)
    assert values[1] != values[2]
    # Without means: with them, the code's value depends on signs, which are others the other way round.
    wide, narrow = (side - side.mean(axis=0) for side in related(rng, 200, 7, 3))
    assert pwcca(wide, narrow, variant="svcca") == pytest.approx(float(pwcca(narrow, wide, variant="svcca")), rel=1e-6)
    first, second = pwcca(wide, narrow, variance=1.0), pwcca(narrow, wide, variance=1.0)
    assert abs(first - second) > 1e-4  # the paper's is weighed by the first side, whichever is wider


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), p=st.integers(1, 8), q=st.integers(1, 8), scale=st.sampled_from([1e-5, 1.0, 1e5])
)
def test_the_size_of_the_features_changes_nothing_and_equal_sides_give_1(seed, p, q, scale):
    x, y = related(np.random.default_rng(seed), 50, p, q)
    for variant in ("paper", "svcca"):
        value = pwcca(x, y, variant=variant)
        assert pwcca(x * scale, y / scale, variant=variant) == pytest.approx(float(value), abs=1e-6)
        assert 0 <= value <= 1
        assert pwcca(x, x, variance=1.0, variant=variant) == pytest.approx(1.0, abs=1e-9)


def test_what_the_code_cannot_do_is_said():
    x, y = related(RNG, 30, 5, 5)
    few = pwcca(RNG.standard_normal((8, 9)), RNG.standard_normal((8, 2)), variance=0.5, variant="svcca")
    assert few.reason.startswith("8 samples are too few")
    wide = RNG.standard_normal((40, 3)) @ RNG.standard_normal((3, 50))
    assert pwcca(wide, x[:1].repeat(40, 0) * RNG.standard_normal((40, 1)), variant="svcca").reason == (
        "variant svcca needs more samples than features, not 40 of 50"
    )
    twice = np.hstack([x, x[:, :1] + 1e-9 * RNG.standard_normal((30, 1))]).astype(np.float32)
    result = pwcca(twice, np.hstack([y, y[:, :1]]).astype(np.float32), variant="svcca")
    assert math.isnan(result) or "features depend on one another" in result.warning
    assert math.isfinite(pwcca(twice, y, variance=1.0))


def test_a_covariance_with_a_negative_eigenvalue_has_no_root():
    exact = RNG.standard_normal((30, 2)) @ RNG.standard_normal((2, 8))
    found = [projection_weighted(exact + size * RNG.standard_normal((30, 8)), exact) for size in (1.0, 0.5, 0.1)]
    assert all(value is None or 0 <= value <= 1 for value in found)


def test_a_circuit_is_multiplied_out_as_pico_1_0_did():
    left, right = RNG.standard_normal((60, 4)).astype(np.float32), RNG.standard_normal((4, 4)).astype(np.float32)
    circuit, y = Factored(left, right, samples=True), RNG.standard_normal((60, 4))
    assert pwcca(circuit, y, variant="pico1") == pwcca(Dense(circuit.dense()), y, variant="pico1")


@pytest.mark.parametrize("which", [0, 1])
def test_where_one_side_has_no_root_there_is_no_value(which, monkeypatch):
    from pico_analyze.metrics import projection_weights

    roots = iter([None, np.eye(3)] if which == 0 else [np.eye(3), None])
    monkeypatch.setattr(projection_weights, "_inverse_root", lambda *_: next(roots))
    x, y = related(RNG, 20, 3, 3)
    assert projection_weighted(x, y) is None
