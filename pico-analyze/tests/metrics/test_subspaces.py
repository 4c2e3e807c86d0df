"""Overlap of leading directions: angles by hand, what chance gives, and where there are too few directions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from rank_facts import others

from pico_analyze.errors import UsageError
from pico_analyze.matrices.factored import Factored
from pico_analyze.matrices.matrix import activations
from pico_analyze.metrics.subspace import subspace_overlap

RNG = np.random.default_rng(91)


def turned(angle):
    """Three columns; the second leading direction of the rows lies at this angle to that of `turned(0)`."""
    matrix = np.zeros((5, 3))
    matrix[0, 0], matrix[1, 1], matrix[2, 1], matrix[3, 2] = 3.0, 2 * math.cos(angle), 2 * math.sin(angle), 1.0
    return matrix


@pytest.mark.parametrize("angle", [0.0, 0.3, 1.0, math.pi / 2])
@pytest.mark.parametrize("side", ["left", "right"])
def test_it_is_the_mean_squared_cosine_of_the_angles(angle, side):
    x, y = (turned(a) if side == "left" else turned(a).T for a in (0.0, angle))
    other = math.cos(angle) ** 2
    for k, expected in ((1, 1.0), (2, (1 + other) / 2), (3, (2 + other) / 3)):
        result = subspace_overlap(x, y, k=k, side=side)
        assert result == pytest.approx(expected, abs=1e-12)
        assert others(result.extra) == {"chance": k / 5}


def test_rounding_never_leads_above_1():
    for n in range(10, 60):
        x = RNG.standard_normal((n, 9))
        for side in ("left", "right"):
            result = subspace_overlap(x, -x, side=side)
            assert result <= 1.0 and result == pytest.approx(1.0, abs=1e-12)
            assert result.extra["chance"] == (8 / n if side == "left" else 8 / 9)


def test_a_rank_of_k_is_enough_and_one_less_is_not():
    for rank, enough in ((3, True), (2, False)):
        low = RNG.standard_normal((9, rank)) @ RNG.standard_normal((rank, 7))
        full = RNG.standard_normal((9, 7))
        circuit = Factored(RNG.standard_normal((9, rank)), RNG.standard_normal((7, rank)))
        for matrix in (low, circuit):
            for sides, which in (((matrix, full), "first"), ((full, matrix), "second")):
                for side in ("left", "right"):
                    result = subspace_overlap(*sides, k=3, side=side)
                    assert math.isfinite(result) == enough
                    assert enough or result.reason == f"the {which} matrix has rank 2, below k = 3"


def test_samples_are_centred_and_have_to_vary():
    x, y = RNG.standard_normal((20, 4)) + 3, RNG.standard_normal((20, 5)) - 5
    result = subspace_overlap(activations(x), activations(y), k=2)
    assert result == pytest.approx(subspace_overlap(x - x.mean(axis=0), y - y.mean(axis=0), k=2), abs=1e-12)
    for rows in (x[:1], np.tile(x[:1], (20, 1))):
        good = activations(y[: len(rows)] if len(rows) > 1 else y[:1])
        if len(rows) > 1:
            second = subspace_overlap(good, activations(rows), k=1)
            assert second.reason == "the second representation does not vary over the samples"
        first = subspace_overlap(activations(rows), good, k=1)
        expected = "the first representation does not vary over the samples"
        assert first.reason == (expected if len(rows) > 1 else "one sample has no variance")
    two = subspace_overlap(activations(x[:2]), activations(y[:2]), k=1)
    assert two.reason == "2 different samples vary in at most 1 directions: any 1 are the same ones"
    assert subspace_overlap(x[:1], y[:1], k=1) == pytest.approx(1.0)  # rows of a weight are not samples


def test_chance_is_over_different_samples_where_both_sides_are_samples():
    which = [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
    x, y = RNG.standard_normal((5, 3))[which], RNG.standard_normal((5, 4))[which]
    assert others(subspace_overlap(activations(x), activations(y), k=2).extra) == {"chance": 2 / 5}
    for sides in ((x, y), (activations(x), y), (x, activations(y))):
        assert others(subspace_overlap(*sides, k=2).extra) == {"chance": 2 / 10}
    three = activations(RNG.standard_normal((3, 4))[[0, 1, 2, 0, 1]])
    assert others(subspace_overlap(three, three, k=1).extra) == {"chance": 1 / 3}
    assert subspace_overlap(three, three, k=2).reason.startswith("3 different samples vary in at most 2 directions")


def test_samples_of_one_feature_have_one_direction():
    x = activations(RNG.standard_normal((9, 1)))
    for side in ("left", "right"):
        assert subspace_overlap(x, x, k=1, side=side) == pytest.approx(1.0)
    assert subspace_overlap(x, x, k=2).reason == "the first matrix has rank 1, below k = 2"


def test_samples_that_differ_by_rounding_alone_have_no_directions():
    rounding = np.finfo(np.float32).eps * RNG.integers(-1, 2, (8, 5))
    samples = activations((1 + rounding).astype(np.float32))  # one sample up to its last bit, in several directions
    result = subspace_overlap(samples, samples, k=3)
    assert result.reason == "the first matrix has rank 0, below k = 3" and result.extra["stored"] == "float32"


def test_features_are_compared_with_as_many_features():
    x, y = RNG.standard_normal((6, 4)), RNG.standard_normal((6, 5))
    assert math.isfinite(subspace_overlap(x, y, k=2))
    expected = "side=right compares features, but one matrix has 4 and the other 5: use side=left"
    with pytest.raises(UsageError, match=f"^metric 'subspace_overlap': {expected}$"):
        subspace_overlap(x, y, k=2, side="right")
    circuits = [Factored(RNG.standard_normal((6, 3)), RNG.standard_normal((4, 3))) for _ in range(2)]
    for side in ("left", "right"):
        expected = subspace_overlap(circuits[0].dense(), circuits[1].dense(), k=2, side=side)
        assert subspace_overlap(*circuits, k=2, side=side) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_mean_is_subtracted_where_it_is_asked_for(side):
    x, y = RNG.standard_normal((20, 5)) + 3, RNG.standard_normal((20, 5)) - 5
    centred = subspace_overlap(x - x.mean(axis=0), y - y.mean(axis=0), k=2, side=side)
    as_they_are = subspace_overlap(x, y, k=2, side=side)
    assert abs(centred - as_they_are) > 1e-3
    for sides in ((x, y), (activations(x), activations(y))):
        assert subspace_overlap(*sides, k=2, side=side, centre="yes") == pytest.approx(centred, abs=1e-12)
        assert subspace_overlap(*sides, k=2, side=side, centre="no") == pytest.approx(as_they_are, abs=1e-12)
