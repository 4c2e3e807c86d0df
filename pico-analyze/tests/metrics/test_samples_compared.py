"""Procrustes, neighbours and dissimilarities of samples: by hand, at their ends, and where they have no value."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import pdist, squareform

from pico_analyze.matrices.factored import Concatenated, Factored
from pico_analyze.matrices.matrix import as_matrix
from pico_analyze.metrics.neighbours import mutual_knn, sample_squares
from pico_analyze.metrics.orthogonal_procrustes import procrustes
from pico_analyze.metrics.representational_similarity import dissimilarities, rsa

RNG = np.random.default_rng(81)
KINDS = pytest.mark.parametrize("kind", ["correlation", "cosine", "euclidean"])
FORMS = pytest.mark.parametrize(
    ("form", "same", "apart"), [("distance", 0, 2), ("similarity", 1, 0), ("angular", 0, 1)]
)


def noise(*shape):
    return RNG.standard_normal(shape)


@FORMS
def test_three_different_samples_are_enough_for_procrustes_and_two_are_not(form, same, apart):
    for n, which in ((1, "1 sample is"), (2, "2 samples are")):
        assert procrustes(noise(n, 3), noise(n, 3), form=form).reason == f"{which} too few: this needs 3"
    twice = noise(2, 3)[[0, 1, 0, 1]]  # which a rotation lays on any other two
    assert procrustes(twice, 2 * twice, form=form).reason == "2 different samples are too few: this needs 3"
    line = noise(3, 1)
    assert procrustes(line, -3 * line, form=form) == pytest.approx(same, abs=1e-7)
    plus, minus = np.array([[1.0], [-1.0], [0.0], [0.0]]), np.array([[0.0], [0.0], [5.0], [-5.0]])
    assert procrustes(plus, minus, form=form) == pytest.approx(apart * (math.pi / 2 if form == "angular" else 1))


@FORMS
def test_rounding_never_leads_procrustes_out_of_its_range(form, same, apart):
    for n in range(3, 60):
        x = noise(n, 4)
        result = procrustes(x, 3 * x, form=form)
        assert min(same, apart) <= result <= max(same, apart)
        assert result == pytest.approx(same, abs=1e-6)


@pytest.mark.parametrize("widths", [(4, 4), (5, 3), (3, 5)])
def test_procrustes_is_the_distance_to_the_best_rotation_squared_or_not(widths):
    x, y = noise(40, widths[0]), noise(40, widths[1])
    wide = max(widths)
    a, b = (np.pad(m - m.mean(axis=0), ((0, 0), (0, wide - m.shape[1]))) for m in (x, y))
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    rotation, _ = scipy.linalg.orthogonal_procrustes(b, a)
    distance = np.linalg.norm(a - b @ rotation)
    assert procrustes(x, y) == procrustes(x, y, squared=True) == pytest.approx(distance**2, rel=1e-10)
    assert procrustes(x, y, squared=False) == pytest.approx(distance, rel=1e-10)
    for form in ("similarity", "angular"):
        assert procrustes(x, y, form=form, squared=False) == procrustes(x, y, form=form)


@pytest.mark.parametrize("size", [1e-2, 1e-4, 1e-6, 1e-8])
def test_a_small_distance_has_its_digits_where_it_is_not_squared(size):
    x = noise(50, 4)
    x -= x.mean(axis=0)
    basis = np.linalg.qr(np.hstack([x, noise(50, 1) - 1.0]))[0]
    other = basis[:, 4:] - basis[:, 4:].mean()
    other -= x @ np.linalg.lstsq(x, other, rcond=None)[0]  # a direction that no rotation of x has, of mean zero
    other *= size * np.linalg.norm(x) / np.linalg.norm(other)
    turned = np.hstack([x @ np.linalg.qr(noise(4, 4))[0], other])
    exact = math.sqrt(2 - 2 / math.sqrt(1 + size**2)) if size > 1e-3 else size * (1 - 3 * size**2 / 8)
    assert procrustes(x, turned, squared=False) == pytest.approx(exact, rel=1e-6)
    assert procrustes(turned, x, squared=False) == pytest.approx(exact, rel=1e-6)
    assert procrustes(x, 3 * x, squared=False) == pytest.approx(0.0, abs=1e-14)


def test_procrustes_names_the_side_that_does_not_vary():
    constant = np.tile(noise(1, 3), (8, 1))
    assert procrustes(constant, noise(8, 3)).reason == "the first representation does not vary over the samples"
    assert procrustes(noise(8, 3), constant).reason == "the second representation does not vary over the samples"


def circuits(n):
    head = Factored(noise(n, 2), noise(5, 2), samples=True)
    return [head, Concatenated([head, Factored(noise(n, 3), noise(4, 3), samples=True)])]


def test_circuits_are_compared_as_their_products():
    y = noise(30, 4)
    for circuit in circuits(30):
        for metric in (procrustes, rsa):
            assert metric(circuit, y) == pytest.approx(metric(circuit.dense(), y), abs=1e-8)
        for distance in ("cosine", "euclidean"):
            expected = mutual_knn(circuit.dense(), y, k=3, distance=distance)
            assert mutual_knn(circuit, y, k=3, distance=distance) == expected


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_neighbours_are_sought_in_all_blocks_of_samples(distance):
    x = noise(1030, 2)
    y = np.vstack([x[:1020], noise(10, 2)])
    ranks = [np.argsort(squareform(pdist(side, distance)) + 9e9 * np.eye(1030), axis=1)[:, :3] for side in (x, y)]
    shared = sum(len(set(a) & set(b)) for a, b in zip(*ranks, strict=True))
    result = mutual_knn(x, y, k=3, distance=distance)
    assert result == pytest.approx(shared / 3090, abs=1e-12) and result.extra == {"chance": 3 / 1029}


@pytest.mark.parametrize(("k", "n"), [(1, 3), (3, 5), (10, 12)])
def test_two_samples_more_than_neighbours_are_enough(k, n):
    x, y = noise(n, 3), noise(n, 2)
    result = mutual_knn(x, y, k=k)
    assert 0 <= result <= 1.0 and result.extra == {"chance": k / (n - 1)}
    few = mutual_knn(x[:-1], y[:-1], k=k)  # all others are neighbours of each
    noun = "neighbour" if k == 1 else "neighbours"
    assert few.reason == f"{n - 1} samples are too few for {k} {noun} each: below {k + 2} all others are neighbours"
    x[-1], y[-1] = x[0], y[0]
    assert mutual_knn(x, y, k=k).reason.startswith(f"{n - 1} different samples are too few for {k} {noun}")


def drawn_overlap(x, y, k, distance, rng):
    """Overlap where every tie is broken at random, in each representation for itself."""
    chosen = []
    for side in (x, y):
        apart = squareform(pdist(side, distance)).round(9) + np.diag(np.full(len(side), np.inf))
        order = np.argsort(apart + 1e-10 * rng.random(apart.shape), axis=1)
        chosen.append(order[:, :k])
    return np.mean([len(set(a) & set(b)) / k for a, b in zip(*chosen, strict=True)])


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_ties_count_as_on_average_where_they_are_broken_at_random(distance):
    rng = np.random.default_rng(7)
    x = noise(9, 4)[rng.integers(0, 9, 30)].astype(np.float32)
    y = np.vstack([noise(12, 3)[rng.integers(0, 12, 18)], noise(12, 3)]).astype(np.float32)
    expected = np.mean([drawn_overlap(x, y, 5, distance, rng) for _ in range(400)])
    assert mutual_knn(x, y, k=5, distance=distance) == pytest.approx(expected, abs=0.006)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_the_share_of_a_tie_by_hand_and_in_any_order_of_samples(distance):
    # Four copies each of four samples: the two nearest of each are two of its three copies.
    x = np.repeat(np.array([[3.0, 0.1], [0.2, 2.0], [-1.0, -1.5], [2.0, -3.0]]), 4, axis=0)
    assert mutual_knn(x, x, k=2, distance=distance) == pytest.approx(2 / 3)  # three copies, each with two thirds
    assert mutual_knn(x, x, k=3, distance=distance).reason.startswith("4 different samples are too few")
    y = noise(16, 3)
    value = mutual_knn(x, y, k=1, distance=distance)
    order = RNG.permutation(16)
    shaken = (x * (1 + np.finfo(np.float64).eps * RNG.integers(-1, 2, x.shape)))[order]
    assert mutual_knn(shaken, y[order], k=1, distance=distance) == pytest.approx(value, abs=1e-12)


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(6, 30),
    k=st.integers(1, 4),
    distance=st.sampled_from(["cosine", "euclidean"]),
)
def test_where_there_are_ties_neither_the_order_of_samples_nor_that_of_sides_matters(seed, n, k, distance):
    rng = np.random.default_rng(seed)
    x, y = (rng.integers(1, 3, (n, width)).astype(np.float32) for width in (3, 4))  # a few different samples
    value, order = mutual_knn(x, y, k=k, distance=distance), rng.permutation(n)
    if value.reason is None:
        assert 0.0 <= value <= 1.0
        assert mutual_knn(x[order], y[order], k=k, distance=distance) == pytest.approx(value, abs=1e-12)
        assert mutual_knn(y, x, k=k, distance=distance) == pytest.approx(value, abs=1e-12)


def test_neighbours_of_what_has_none():
    constant = np.tile(noise(1, 3), (8, 1))
    for distance in ("cosine", "euclidean"):
        sides = {"first": (constant, noise(8, 2)), "second": (noise(8, 2), constant)}
        for which, matrices in sides.items():
            result = mutual_knn(*matrices, k=2, distance=distance)
            assert result.reason == f"the {which} representation does not vary over the samples"


def test_a_sample_of_a_circuit_whose_squares_sum_to_less_than_zero_has_no_direction():
    """What is zero in a product of factors may come out as −1e-17 there: it has no root."""
    found = 0
    for _ in range(60):
        left, column = noise(12, 2), noise(6, 1)
        left[4, 1] = -left[4, 0] / 3
        circuit = Factored(left, column * [1.0, 3.0])
        if sample_squares(circuit)[4] < 0:
            found += 1
            for sides, which in (((circuit, noise(12, 3)), "first"), ((noise(12, 3), circuit), "second")):
                result = mutual_knn(*sides, k=3)
                assert result.reason == f"a sample of the {which} representation is zero: it has no direction (cosine)"
    assert found


@KINDS
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_dissimilarities_are_scipys_in_the_same_order_at_any_size(kind, scale):
    x = noise(9, 4)
    found = dissimilarities(as_matrix(x * scale), kind)
    np.testing.assert_allclose(found, pdist(x, kind) * (scale if kind == "euclidean" else 1), rtol=1e-9, atol=1e-12)
    for circuit in circuits(9):
        expected = pdist(circuit.dense(), kind)
        np.testing.assert_allclose(dissimilarities(circuit, kind), expected, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("offset", [0.0, 3.3, 1e5])
def test_equal_samples_are_at_distance_zero_however_far_out(offset):
    x = (noise(4, 5) + offset)[[0, 1, 0, 2, 1, 3]]
    found = squareform(dissimilarities(as_matrix(x), "euclidean"))
    assert found[0, 2] == found[1, 4] == 0.0
    np.testing.assert_allclose(found, squareform(pdist(x)), rtol=1e-4, atol=1e-300)


def test_samples_nearer_than_rounding_are_at_distance_zero():
    x = noise(30, 3) + 1e4
    x[15:] = x[:15] + 1e-11 * noise(15, 3)
    found = squareform(dissimilarities(as_matrix(x), "euclidean"))
    np.testing.assert_array_equal(found[np.arange(15), np.arange(15, 30)], 0.0)
    assert np.all(np.isfinite(found))


@KINDS
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_samples_that_are_the_same_up_to_rounding_are_one_in_every_distance(kind, dtype):
    x = noise(12, 6).astype(dtype)
    which = RNG.integers(0, 12, 40)
    shaken = (x[which] * (1 + np.finfo(dtype).eps * RNG.integers(-2, 3, (40, 6)))).astype(dtype)
    found = squareform(dissimilarities(as_matrix(shaken), kind))
    for i, j in itertools.combinations(range(40), 2):
        assert (found[i, j] == 0.0) == (which[i] == which[j])
        if which[i] == which[j]:  # and equally far from any other, to the last bit
            np.testing.assert_array_equal(found[i], found[j])
    np.testing.assert_allclose(found, squareform(pdist(x[which].astype(np.float64), kind)), atol=2e-5)


@pytest.mark.parametrize("compare", ["spearman", "pearson"])
@KINDS
def test_rounding_of_repeated_samples_moves_no_similarity(kind, compare):
    x, y = (noise(10, 6).astype(np.float32)[RNG.integers(0, 10, 60)] for _ in range(2))
    shaken = (x * (1 + np.finfo(np.float32).eps * RNG.integers(-1, 2, x.shape))).astype(np.float32)
    clean, shaky = (rsa(side, y, dissimilarity=kind, compare=compare) for side in (x, shaken))
    assert shaky == pytest.approx(clean, abs=1e-5)


@pytest.mark.parametrize("kind", ["correlation", "cosine"])
def test_samples_of_one_direction_are_at_distance_zero(kind):
    x = noise(1, 5).astype(np.float32) * np.array([[1.0], [0.3], [7.7], [1e3]], np.float32)
    assert dissimilarities(as_matrix(x), kind).tolist() == [0.0] * 6


@KINDS
@pytest.mark.parametrize("compare", ["spearman", "pearson"])
def test_the_size_of_a_side_changes_no_pattern(kind, compare):
    x, y = noise(9, 4), noise(9, 5)
    expected = rsa(x, y, dissimilarity=kind, compare=compare)
    for scale in (1e-100, 1e100):
        assert rsa(scale * x, y, dissimilarity=kind, compare=compare) == pytest.approx(expected, abs=1e-9)
        assert rsa(x, scale * y, dissimilarity=kind, compare=compare) == pytest.approx(expected, abs=1e-9)


@KINDS
def test_three_samples_are_enough_for_a_pattern_and_two_are_not(kind):
    x, y = noise(3, 4), noise(3, 5)
    first, second = pdist(x, kind), pdist(y, kind)
    expected = np.corrcoef(first, second)[0, 1]
    assert rsa(x, y, dissimilarity=kind, compare="pearson") == pytest.approx(expected, rel=1e-7)
    ranks = np.corrcoef(np.argsort(np.argsort(first)), np.argsort(np.argsort(second)))[0, 1]
    assert rsa(x, y, dissimilarity=kind) == pytest.approx(ranks, abs=1e-12)
    few = rsa(x[:2], y[:2], dissimilarity=kind)
    assert few.reason.startswith("2 samples") and few.reason.endswith("too few: this needs 3")
    repeated = rsa(x[[0, 1, 1, 0]], y[[0, 1, 1, 0]], dissimilarity=kind)
    assert repeated.reason.startswith("2 different samples") and repeated.reason.endswith("too few: this needs 3")


def triangle(a, b, c):
    """Three samples at these distances: of the first two, of the first and the third, of the last two."""
    along = (a * a + b * b - c * c) / (2 * a)
    return np.array([[0.0, 0.0], [a, 0.0], [along, math.sqrt(b * b - along * along)]])


@pytest.mark.parametrize("compare", ["spearman", "pearson"])
def test_opposite_dissimilarities_give_minus_1_and_rounding_leads_no_further(compare):
    for _ in range(60):
        sides = RNG.uniform(1, 2, 3)
        value = rsa(triangle(*sides), triangle(*(3 - sides)), dissimilarity="euclidean", compare=compare)
        assert value >= -1.0 and value == pytest.approx(-1.0, abs=1e-9)
        x = noise(7, 3)
        assert rsa(x, 7 * x, dissimilarity="euclidean", compare=compare) <= 1.0


@KINDS
def test_a_sample_without_direction_has_no_dissimilarities(kind):
    x, y = noise(8, 4), noise(8, 4)
    flat, zero = x.copy(), x.copy()
    flat[3], zero[3] = 2.5, 0.0
    undefined = {"correlation": (flat, zero), "cosine": (zero,), "euclidean": ()}[kind]
    for bad in (flat, zero):
        for sides, which in (((bad, y), "first"), ((y, bad), "second")):
            for scale in (1e-7, 1.0, 1e7):
                result = rsa(*(side * scale for side in sides), dissimilarity=kind)
                if any(bad is one for one in undefined):
                    assert result.reason == f"a sample of the {which} representation has no direction ({kind})"
                else:
                    assert math.isfinite(result)


@KINDS
@pytest.mark.parametrize("compare", ["spearman", "pearson"])
@pytest.mark.parametrize("scale", [1e-9, 0.3, 1.0, 1e9])
def test_samples_that_are_equally_far_from_each_other_have_no_pattern(kind, compare, scale):
    corners = np.eye(9)[:8]
    if kind != "correlation":  # the mean over features is not that of a rotated basis
        corners = corners @ np.linalg.qr(noise(9, 9))[0]
    for sides, which in (((corners * scale, noise(8, 5)), "first"), ((noise(8, 5), corners * scale), "second")):
        result = rsa(*sides, dissimilarity=kind, compare=compare)
        assert result.reason == f"all dissimilarities of the {which} representation are equal"
    moved = corners.copy()
    moved[0] += 1e-6 * corners[1]
    assert math.isfinite(rsa(moved * scale, noise(8, 5), dissimilarity=kind, compare=compare))
