"""Comparison of entries: the same in every form of a matrix, exact where little changed, and at the boundaries."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pico_analyze.matrices.factored import Concatenated, Factored
from pico_analyze.matrices.matrix import Dense
from pico_analyze.metrics.change import cosine, distance, inner, relative_change

RNG = np.random.default_rng(41)


def factored(n, p, r):
    return Factored(RNG.standard_normal((n, r)), RNG.standard_normal((p, r)))


def forms(n):
    """Matrices of n rows and 8 columns in each form."""
    return {
        "dense": Dense(RNG.standard_normal((n, 8))),
        "single precision": Dense(RNG.standard_normal((n, 8)).astype(np.float32)),
        "circuit of rank 3": factored(n, 8, 3),
        "circuit of rank 5": factored(n, 8, 5),
        "heads of 4 and 4": Concatenated([factored(n, 4, 3), factored(n, 4, 3)]),
        "heads of 4 and 4, of rank 2": Concatenated([factored(n, 4, 2), factored(n, 4, 2)]),
        "heads of 3 and 5": Concatenated([factored(n, 3, 3), factored(n, 5, 3)]),
        "three heads": Concatenated([factored(n, 4, 2), factored(n, 2, 2), factored(n, 2, 2)]),
    }


NAMES = list(forms(2))


@pytest.mark.parametrize("first", NAMES)
@pytest.mark.parametrize("second", NAMES)
def test_every_form_of_a_matrix_is_compared_with_every_other_entry_by_entry(first, second):
    for n in (8, 11, 3):
        x, y = forms(n)[first], forms(n)[second]
        a, b = x.dense().astype(np.float64), y.dense().astype(np.float64)
        assert inner(x, y) == pytest.approx(np.sum(a * b), rel=1e-9, abs=1e-9)
        assert distance(x, y) == pytest.approx(np.sqrt(np.sum((a - b) ** 2)), rel=1e-9)
        assert cosine(x, y) == pytest.approx(np.sum(a * b) / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-9)
        assert relative_change(x, y) == pytest.approx(np.linalg.norm(a - b) / np.linalg.norm(b), rel=1e-9)


@pytest.mark.parametrize("shape", [(40, 6), (6, 6), (6, 40)])
@pytest.mark.parametrize("n_heads", [0, 1, 2])
def test_circuits_that_are_nearly_equal_do_not_cancel(shape, n_heads):
    """Entries of a few bits each, changed far behind the last of them: the product's rounding would hide it."""
    small = 2.0**-48

    def integers(n):
        return RNG.integers(-7, 8, (n, 6)).astype(float)

    before, after, squares, total = [], [], 0.0, 0.0
    for _ in range(max(1, n_heads)):
        left, right, move = integers(shape[0]), integers(shape[1]), integers(shape[0])
        before.append(Factored(left, right))
        after.append(Factored(left + small * move, right))
        squares += float(np.sum((move @ right.T) ** 2))
        total += float(np.sum((left @ right.T) ** 2))
    x, y = (Concatenated(after), Concatenated(before)) if n_heads else (after[0], before[0])
    assert relative_change(x, y) == pytest.approx(small * math.sqrt(squares / total), rel=1e-9, abs=0)
    assert relative_change(y, y) == 0.0


def test_single_precision_is_widened_before_it_is_multiplied_or_subtracted():
    x, y = np.array([[1.0, 2.0**-20]], np.float32), np.array([[1.0, -(2.0**-24)]], np.float32)
    assert inner(Dense(x), Dense(y)) == 1.0 - 2.0**-44
    assert distance(Dense(x), Dense(y)) == 2.0**-20 + 2.0**-24
    big = np.full((1, 2), 1e30, np.float32)
    assert cosine(big, big) == pytest.approx(1.0, abs=1e-15) and relative_change(-big, big) == pytest.approx(2.0)
    column, row = np.array([[1.0], [2.0**-12]], np.float32), np.array([[1.0]], np.float32)
    circuit = Factored(column, row)
    assert inner(circuit, circuit) == 1.0 + 2.0**-24
    moved = Factored(column + np.array([[0.0], [2.0**-23]], np.float32), row)
    assert distance(circuit, moved) == pytest.approx(2.0**-23, rel=1e-6, abs=0)


def test_rounding_never_leads_a_cosine_out_of_its_range():
    for n in range(2, 60):
        x = RNG.standard_normal((n, 7))
        assert cosine(x, 3 * x) <= 1.0 and cosine(x, -0.7 * x) >= -1.0
        assert abs(cosine(x, 3 * x)) == pytest.approx(1.0, abs=1e-14)


def test_only_what_is_zero_has_no_direction_and_no_scale():
    zero, smallest = np.zeros((1, 2)), np.array([[1e-150, 0.0]])
    one = np.array([[3.0, 4.0]])
    for sides in ((zero, one), (one, zero), (zero, zero)):
        assert cosine(*sides).reason == "a matrix is zero: it has no direction"
    assert cosine(smallest, one) == pytest.approx(0.6, rel=1e-14)
    assert relative_change(one, zero).reason == "the target is zero: change has no scale"
    assert relative_change(zero, one) == 1.0 and relative_change(one, smallest) == pytest.approx(5e150, rel=1e-12)
