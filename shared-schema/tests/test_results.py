from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_schema import DocumentError
from pico_schema.results import flat_results


def test_tasks_and_measures_become_dotted_names_in_their_order() -> None:
    tasks = {"paloma": {"perplexity": 31.5, "bytes": 7, "note": "x", "none": None}, "loss": 3, "blimp": {}}
    assert list(flat_results(tasks).items()) == [("paloma.perplexity", 31.5), ("paloma.bytes", 7.0), ("loss", 3.0)]
    assert all(type(value) is float for value in flat_results(tasks).values())


def test_true_and_false_and_lists_are_no_numbers() -> None:
    assert flat_results({"a": True, "b": {"c": False, "d": [1.0]}}) == {}


def test_what_is_not_finite_is_a_number_still() -> None:
    flat = flat_results({"a": {"nan": math.nan, "inf": math.inf}})
    assert math.isnan(flat["a.nan"]) and flat["a.inf"] == math.inf


def test_any_depth_is_read() -> None:
    nested: dict[str, Any] = {"x": 1}
    for _ in range(5000):
        nested = {"a": nested}
    assert list(flat_results(nested).values()) == [1.0]


def test_an_integer_that_no_float_can_hold_is_named() -> None:
    with pytest.raises(DocumentError, match=r"result a\.b is too large"):
        flat_results({"a": {"b": 10**400}})


names = st.text(st.characters(exclude_characters="."), max_size=3)
nested_results = st.recursive(st.floats(allow_nan=False), lambda inner: st.dictionaries(names, inner, max_size=4))


@given(st.dictionaries(names, nested_results, max_size=4))
def test_every_number_is_found_under_the_names_that_lead_to_it(results: dict[str, Any]) -> None:
    flat = flat_results(results)
    for name, value in flat.items():
        found: Any = results
        for part in name.split("."):
            found = found[part]
        assert found == value

    def count(level: Any) -> int:
        return sum(map(count, level.values())) if isinstance(level, dict) else 1

    assert len(flat) == count(results)
