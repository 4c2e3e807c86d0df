"""The type in which numbers were stored goes with arrays until a matrix takes it over."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pico_analyze.stored import PRECISIONS, coarsest, in_rows, marked, narrowest, side_by_side, stored_type

TYPES = {name: getattr(torch, name) for name in PRECISIONS}


@pytest.mark.parametrize("name", PRECISIONS)
def test_the_precision_of_a_type_is_torchs(name):
    facts, precision = torch.finfo(TYPES[name]), PRECISIONS[name]
    assert precision.unit == facts.eps / 2
    assert precision.smallest == facts.smallest_normal * facts.eps / (1 if name == "float64" else 2)
    largest_error = 0.0
    for value in np.random.default_rng(0).uniform(1, 2, 2000):
        stored = torch.tensor(value, dtype=torch.float64).to(TYPES[name]).double().item()
        largest_error = max(largest_error, abs(stored - value) / value)
    assert largest_error <= precision.unit and (name == "float64" or largest_error > 0.9 * precision.unit)


def test_types_are_in_order_of_their_precision():
    assert list(PRECISIONS) == ["bfloat16", "float16", "float32", "float64"]
    units = [precision.unit for precision in PRECISIONS.values()]
    assert units == sorted(units, reverse=True)
    assert coarsest(["float32", "float16"]) == "float16" and coarsest(["float64"]) == "float64"


def test_an_array_was_stored_as_what_it_is_where_nothing_else_is_said():
    for kind in ("float16", "float32", "float64"):
        array = np.ones((2, 3), kind)
        assert stored_type(array) == kind and type(marked(array, kind)) is np.ndarray
    assert stored_type(np.ones(3, int)) == stored_type(np.ones(3, bool)) == "float64"


def test_views_keep_the_mark_and_it_changes_no_number():
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    it = marked(array, "bfloat16")
    assert np.array_equal(it, array) and np.shares_memory(it, array)
    for view in (it.T, it[1:], it[:, 2], it.reshape(4, 3), it[[2, 0]], in_rows(it.T), in_rows(it)):
        assert stored_type(view) == "bfloat16" and view.dtype == np.float32
    assert in_rows(it.T).flags.c_contiguous and np.shares_memory(in_rows(it), it)
    assert stored_type(marked(it, "float32")) == "float32" and stored_type(it) == "bfloat16"


def test_arrays_beside_each_other_were_stored_as_the_coarsest():
    first, second = np.ones((2, 1), np.float32), marked(np.zeros((2, 3), np.float32), "bfloat16")
    joined = side_by_side([first, second])
    assert stored_type(joined) == "bfloat16" and joined.tolist() == [[1, 0, 0, 0]] * 2
    assert type(side_by_side([first, first])) is np.ndarray


@given(seed=st.integers(0, 2**32 - 1), exponent=st.integers(-4, 4), wide=st.booleans())
def test_what_numbers_were_rounded_to_is_seen_of_them(seed, exponent, wide):
    values = torch.from_numpy(np.random.default_rng(seed).standard_normal(300) * 10.0**exponent)
    for name, kind in TYPES.items():
        if name == "float64" and not wide:
            continue
        held = values.to(kind).to(torch.float64 if wide else torch.float32).numpy()
        found = narrowest(held)
        assert found == name or (name == "float16" and PRECISIONS[found].unit > PRECISIONS[name].unit)
        assert np.array_equal(torch.from_numpy(held).to(TYPES[found]).to(torch.float64).numpy(), held)


def test_few_numbers_may_be_round_ones_and_those_that_are_not_finite_are_none():
    assert narrowest(np.ones(255, np.float32)) == "float32" and narrowest(np.ones(256, np.float32)) == "bfloat16"
    assert narrowest(np.full(300, np.nan)) == "float64"
    assert narrowest(np.full(300, 1e300)) == "float64"  # too large for the others, without a warning
