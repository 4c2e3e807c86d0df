"""The text forms of cells: what is equal has equal texts, and what is missing is null."""

import hashlib
import json
import math

import numpy as np
import pandas as pd
import pytest

from pico_analyze.table.columns import CORE, as_json, digest, plain, schema


def test_every_tidy_row_of_pico_has_these_columns_of_these_types_in_this_order():
    schema.cache_clear()
    types = {field.name: str(field.type) for field in schema()}
    assert [(name, types[name]) for name in CORE] == [
        ("run", "string"),
        ("step", "int64"),
        ("tokens_seen", "int64"),
        ("split", "string"),
        ("data", "string"),
        ("component", "string"),
        ("site", "string"),
        ("layer", "int64"),
        ("head", "int64"),
        ("metric", "string"),
        ("params", "string"),
        ("target_run", "string"),
        ("target_step", "int64"),
        ("value", "double"),
        ("reason", "string"),
        ("n_samples", "int64"),
    ]


def test_equal_mappings_have_equal_texts_in_the_letters_that_they_were_given_in():
    assert as_json({"b": 1, "a": {"d": "größer", "c": None}}) == '{"a": {"c": null, "d": "größer"}, "b": 1}'
    assert as_json({"a": 1, "b": 2}) == as_json({"b": 2, "a": 1})


def test_a_digest_is_sixteen_digits_of_the_sha256_of_its_parts_as_json():
    text = '["cka", {"a": 1, "b": 2}, 3]'
    assert digest("cka", {"b": 2, "a": 1}, 3) == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert len(digest()) == 16 and digest("a", "b") != digest("b", "a")


@pytest.mark.parametrize("value", [None, pd.NA, math.nan, np.nan, np.float64("nan"), np.float32("nan")])
def test_a_missing_cell_is_null(value):
    assert plain(value) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", '""'),
        ("cka", '"cka"'),
        (0, "0"),
        (0.5, "0.5"),
        (False, "false"),
        (np.int64(7), "7"),
        (np.float64(0.5), "0.5"),
        (np.float32(0.5), "0.5"),
        (np.bool_(True), "true"),
    ],
)
def test_a_cell_that_has_a_value_is_that_value_for_json(value, text):
    assert json.dumps(plain(value)) == text
