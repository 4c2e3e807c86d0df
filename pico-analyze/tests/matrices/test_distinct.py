"""Which rows count as the same sample."""

import numpy as np
import pytest

from pico_analyze.matrices.distinct import n_distinct_samples
from pico_analyze.metrics import activations


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("scale", [2.0**-200, 1.0, 2.0**200])
@pytest.mark.parametrize(("units", "different"), [(0, 1), (1, 1), (16, 1), (17, 2), (100, 2)])
def test_rows_are_the_same_up_to_sixteen_units_of_rounding(units, different, scale, sign):
    rows = np.array([[1.0, -1.0, 0.25], [1.0 + units * np.finfo(np.float64).eps, -1.0, 0.25]])
    assert n_distinct_samples(activations(sign * scale * rows)) == different


@pytest.mark.parametrize(("units", "different"), [(0, 1), (16, 1), (17, 2), (40, 2)])
def test_wide_rows_may_differ_so_much_in_each_of_their_entries(units, different):
    signs = np.where(np.arange(64) % 3, 1.0, -1.0)
    rows = np.array([signs, signs * (1 + units * np.finfo(np.float64).eps)])
    assert n_distinct_samples(activations(rows)) == different


@pytest.mark.parametrize(("units", "different"), [(16, 1), (17, 2)])
def test_units_of_rounding_are_those_of_the_type_of_the_data(units, different):
    rows = np.array([[1.0, 0.5], [1.0 + units * np.finfo(np.float32).eps, 0.5]], np.float32)
    assert n_distinct_samples(activations(rows)) == different
    assert n_distinct_samples(activations(rows.astype(np.float64))) == 2


def test_the_rounding_is_that_of_the_rows_own_largest_entries():
    """Not of another, larger sample."""
    rows = np.array([[1e-6, 0.0], [2e-6, 0.0], [1e12, 0.0]])
    assert n_distinct_samples(activations(rows)) == 3


@pytest.mark.parametrize("same", [np.zeros((4, 3)), np.full((4, 3), -2.5), np.full((4, 1), 1e-300), np.ones((1, 2))])
def test_equal_rows_are_one_sample_whatever_they_hold(same):
    assert n_distinct_samples(activations(same)) == 1


def test_rows_below_zero_are_told_apart_as_those_above_are():
    values = np.random.default_rng(0).uniform(1, 2, (30, 5))
    repeated = np.concatenate([values, np.nextafter(values, 3), values])
    assert n_distinct_samples(activations(repeated)) == n_distinct_samples(activations(-repeated)) == 30


def test_samples_are_distinct_where_any_of_several_matrices_tells_them_apart():
    first = activations(np.array([[1.0], [1.0], [2.0], [2.0]]))
    second = activations(np.array([[5.0], [6.0], [5.0], [5.0]]))
    assert n_distinct_samples(first) == n_distinct_samples(second) == 2
    assert n_distinct_samples(first, second) == 3
