import pytest

from pico_analyze.output.metric_pages import metrics, param_text
from pico_analyze.output.text import aligned, as_csv, as_json, number, size_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.93124, "0.9312"),
        (0.0, "0.0000"),
        (1.0, "1.0000"),
        (12.345, "12.35"),
        (1234.5, "1234" if round(1234.5) == 1234 else "1235"),
        (3.1e6, "3.10e+06"),
        (1e-5, "1.00e-05"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (float("-inf"), "-inf"),
    ],
)
def test_numbers_are_short(value, text):
    assert number(value) == text


def test_columns_are_aligned():
    assert aligned(["step", "name"], [["0", "a"], ["100", "bcd"]], left=(1,)).splitlines() == [
        "  step  name",
        "     0  a",
        "   100  bcd",
    ]


@pytest.mark.parametrize(
    ("size", "text"), [(None, "-"), (12, "12 B"), (34_100_000, "34.1 MB"), (2_000_000_000_000, "2.0 TB")]
)
def test_sizes_are_for_people(size, text):
    assert size_text(size) == text


def test_an_empty_list_is_valid_json_and_csv():
    assert as_json([]).split() == ["[", "]"]
    assert as_csv([]) == ""


def test_a_parameter_says_what_it_takes():
    record = {"default": False, "choices": [], "low": None, "high": None, "help": "why"}
    assert param_text(record) == "default false: why"
    assert param_text(record | {"default": 3, "low": 1, "high": 9}) == "1 to 9, default 3: why"
    assert param_text(record | {"default": "a", "choices": ["a", "b"]}) == "a or b, default a: why"


def test_the_list_of_metrics_names_ranges_and_data():
    text = metrics(None, "table")
    assert "cka" in text and "comparison" in text and "activations" in text
    assert max(map(len, text.splitlines())) < 150
