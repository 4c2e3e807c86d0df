"""Anisotropy and intrinsic dimension: against loops written from the papers, and of clouds of which they are known."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pico_analyze.matrices.factored import Factored
from pico_analyze.matrices.matrix import activations
from pico_analyze.metrics import anisotropy, intrinsic_dimension
from pico_analyze.metrics.spec import METRICS
from pico_analyze.statistics.uncertainty import bootstrap

drawn = st.tuples(st.integers(0, 2**31), st.integers(2, 14), st.integers(1, 6))


def cloud(case):
    seed, n, p = case
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, p)) + rng.standard_normal(p)


@given(drawn)
def test_anisotropy_is_the_mean_cosine_of_all_pairs(case):
    matrix = cloud(case)
    cosines = [a @ b / math.sqrt((a @ a) * (b @ b)) for a, b in combinations(matrix, 2)]
    result = anisotropy(matrix)
    assert result == pytest.approx(np.mean(cosines), abs=1e-12)
    assert -1 / (len(matrix) - 1) - 1e-12 <= result <= 1


@given(drawn, st.floats(1e-3, 1e3))
def test_rotation_and_the_length_of_each_sample_change_nothing(case, scale):
    matrix = cloud(case)
    rng = np.random.default_rng(case[0])
    turned = matrix @ np.linalg.qr(rng.standard_normal((matrix.shape[1],) * 2))[0]
    longer = turned * scale * rng.uniform(0.5, 2, len(matrix))[:, None]
    assert anisotropy(longer) == pytest.approx(float(anisotropy(matrix)), abs=1e-10)


@pytest.mark.parametrize(
    ("matrix", "value"),
    [
        (np.eye(6), 0.0),
        (np.outer(np.arange(1.0, 9), [1.0, -2.0, 3.0]), 1.0),
        (np.array([[1.0, 0], [-1, 0]]), -1.0),
        (np.array([[1.0, 0], [-0.5, math.sqrt(0.75)], [-0.5, -math.sqrt(0.75)]]), -0.5),
    ],
)
def test_anisotropy_of_clouds_where_it_is_known(matrix, value):
    assert anisotropy(matrix) == pytest.approx(value, abs=1e-12)


def test_a_cloud_about_its_own_mean_has_the_anisotropy_of_the_mean():
    # a mean of length m and noise of p directions: cosines tend to m² / (m² + p)
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((2000, 400)) + np.eye(400)[0] * 20
    assert anisotropy(matrix) == pytest.approx(0.5, abs=0.01)


def test_intervals_of_anisotropy_follow_rows():
    """Eight positions of a row point nearly the same way; what is covered is the mean over pairs of rows."""
    held = {8: 0, 1: 0}
    for seed in range(150):
        rng = np.random.default_rng(seed)
        rows = rng.standard_normal((32, 6)) + np.eye(6)[0]
        matrix = activations(np.repeat(rows, 8, axis=0) + 0.3 * rng.standard_normal((256, 6)))
        for positions in held:
            interval = bootstrap(METRICS.get("anisotropy"), (matrix,), {}, 40, positions=positions)
            held[positions] += interval["ci_low"] <= TRUE <= interval["ci_high"]
    assert held[8] >= 0.88 * 150 and held[1] < 0.75 * 150


def _limit() -> float:
    rng = np.random.default_rng(99)
    rows = rng.standard_normal((200_000, 6)) + np.eye(6)[0] + 0.3 * rng.standard_normal((200_000, 6))
    mean = (rows / np.linalg.norm(rows, axis=1)[:, None]).mean(axis=0)
    return float(mean @ mean)


TRUE = _limit()


@pytest.mark.parametrize(
    ("matrix", "reason"),
    [
        (np.ones((5, 3)), "all samples are the same one"),
        (np.array([[1.0, 2.0]]), "all samples are the same one"),
        (np.array([[1.0, 2.0], [0.0, 0.0], [1.0, 1.0]]), "a sample is zero"),
    ],
)
def test_without_pairs_or_directions_there_is_no_anisotropy(matrix, reason):
    result = anisotropy(matrix)
    assert math.isnan(result) and reason in str(result.reason)


# -- intrinsic dimension


def by_loop(matrix, discard=0.1):
    """TwoNN, from the algorithm in the paper: a loop over samples, a fit through the origin."""
    ratios = []
    for i, sample in enumerate(matrix):
        first, second = sorted(math.dist(sample, other) for j, other in enumerate(matrix) if j != i)[:2]
        ratios.append(second / first)
    ratios.sort()
    n = len(ratios)
    kept = [(math.log(mu), -math.log(1 - i / n)) for i, mu in enumerate(ratios, 1) if i < n and i <= n * (1 - discard)]
    return sum(x * y for x, y in kept) / sum(x * x for x, _ in kept)


@given(st.integers(0, 2**31), st.integers(10, 40), st.integers(1, 6), st.sampled_from([0.0, 0.1, 0.5]))
def test_the_dimension_is_that_of_the_papers_algorithm(seed, n, p, discard):
    matrix = np.random.default_rng(seed).standard_normal((n, p))
    result = intrinsic_dimension(matrix, discard=discard)
    assert result == pytest.approx(by_loop(matrix, discard), rel=1e-8)
    assert result.extra["distinct"] == n


def manifold(dimension, n=3000, seed=0):
    rng = np.random.default_rng(seed)
    inside = rng.uniform(0, 1, (n, dimension))
    return inside @ np.linalg.qr(rng.standard_normal((30, dimension)))[0].T


@pytest.mark.parametrize(("dimension", "error"), [(1, 0.06), (2, 0.12), (4, 0.35)])
def test_the_dimension_of_a_cube_in_thirty_dimensions_is_found(dimension, error):
    assert intrinsic_dimension(manifold(dimension)) == pytest.approx(dimension, abs=error)


def test_a_sphere_and_a_swiss_roll_have_two_dimensions():
    rng = np.random.default_rng(1)
    sphere = rng.standard_normal((3000, 3))
    sphere /= np.linalg.norm(sphere, axis=1)[:, None]
    assert intrinsic_dimension(sphere) == pytest.approx(2, abs=0.12)
    angle, height = rng.uniform(4, 14, 3000), rng.uniform(0, 20, 3000)
    roll = np.column_stack([angle * np.cos(angle), height, angle * np.sin(angle)])
    assert intrinsic_dimension(roll) == pytest.approx(2, abs=0.15)


SCIKIT_DIMENSION = {1: 1.0274538920610705, 2: 2.0318229832117662, 5: 4.633860396882089, 9: 7.773202031798248}
"""What `skdim.id.TwoNN` of scikit-dimension 0.5.0 gave of the clouds below."""


def test_scikit_dimension_finds_the_same():
    rng = np.random.default_rng(0)
    for dimension, expected in SCIKIT_DIMENSION.items():
        matrix = rng.uniform(0, 1, (1500, dimension)) @ np.linalg.qr(rng.standard_normal((30, dimension)))[0].T
        assert intrinsic_dimension(matrix) == pytest.approx(expected, rel=1e-6)


@settings(max_examples=20)
@given(st.integers(0, 2**31), st.floats(1e-3, 1e3))
def test_neither_rotation_nor_shift_scale_or_order_changes_the_dimension(seed, scale):
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((40, 5))
    turned = matrix @ np.linalg.qr(rng.standard_normal((5, 5)))[0] * scale + 100 * scale * rng.standard_normal(5)
    assert intrinsic_dimension(turned[rng.permutation(40)]) == pytest.approx(
        float(intrinsic_dimension(matrix)), rel=1e-6
    )


def test_samples_that_are_repeated_count_once():
    matrix = manifold(2, n=300)
    repeated = matrix[np.random.default_rng(0).permutation(np.arange(900) % 300)]
    result = intrinsic_dimension(repeated)
    assert result == pytest.approx(float(intrinsic_dimension(matrix)), rel=1e-9) and result.extra["distinct"] == 300


def test_a_large_mean_costs_no_digits():
    matrix = manifold(3, n=500)
    assert intrinsic_dimension(matrix + 1e6) == pytest.approx(float(intrinsic_dimension(matrix)), rel=1e-4)


def test_a_product_has_the_dimension_of_its_dense_form():
    rng = np.random.default_rng(0)
    product = Factored(rng.standard_normal((200, 3)), rng.standard_normal((20, 3)), samples=True)
    assert intrinsic_dimension(product) == pytest.approx(float(intrinsic_dimension(product.dense())), rel=1e-9)
    assert anisotropy(product) == pytest.approx(float(anisotropy(product.dense())), rel=1e-9)


@pytest.mark.parametrize(
    ("matrix", "reason"),
    [
        (np.random.default_rng(0).standard_normal((9, 3)), "9 different samples are too few"),
        (np.ones((50, 3)), "1 different sample is too few"),
        (np.eye(30), "equally far"),
        (np.column_stack([np.cos(np.arange(12) * np.pi / 6), np.sin(np.arange(12) * np.pi / 6)]), "equally far"),
    ],
)
def test_too_few_or_evenly_placed_samples_have_no_dimension(matrix, reason):
    result = intrinsic_dimension(matrix)
    assert math.isnan(result) and reason in str(result.reason)


def test_the_interval_of_the_dimension_holds_it():
    held = 0
    for seed in range(30):
        matrix = activations(manifold(2, n=400, seed=seed))
        interval = bootstrap(METRICS.get("intrinsic_dimension"), (matrix,), {}, 16, positions=1)
        held += interval["ci_low"] <= 2 <= interval["ci_high"]
    assert held >= 24


@pytest.mark.parametrize("size", [1e-120, 1e120])
@pytest.mark.parametrize("metric", [anisotropy, intrinsic_dimension])
def test_as_far_as_squares_reach_the_size_of_numbers_changes_nothing(metric, size):
    matrix = cloud((3, 12, 4))
    assert metric(size * matrix) == pytest.approx(float(metric(matrix)), rel=1e-9)
