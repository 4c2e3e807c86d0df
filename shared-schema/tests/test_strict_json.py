"""JSON that two readers could understand differently is refused, in a sentence; everything else is read as it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_schema import strict_json

texts = st.text(max_size=5)
scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
values = st.recursive(scalars | texts, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=20)


@given(values, st.booleans(), st.booleans())
def test_what_json_can_say_is_read_as_it_is(value: Any, ascii_only: bool, own: bool) -> None:
    assert strict_json.parse(json.dumps(value, ensure_ascii=ascii_only).encode(), own=own) == value


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"a": 1, "b": {"c": 1, "d": 2, "c": 3}}', "key 'c' is there twice"),
        (b'{"a": 1, "\\u0061": 2}', "key 'a' is there twice"),
        (b'{"a": ["x", "\\ud83d"]}', "half a surrogate pair"),
        (b'{"\\uDE00": 1}', "half a surrogate pair"),
        (b'"\xed\xa0\xbd"', "not UTF-8"),  # the same half, as bytes
        ("{}".encode("utf-16"), "not UTF-8"),
        (b"\xff{}", "not UTF-8"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
        (b"1" * 5_000, "5000 digits"),
        (b"0." + b"1" * 5_000, "5002 digits"),
        (b"{", "Expecting"),
        (b"", "Expecting"),
    ],
)
def test_what_is_ambiguous_or_damaged_is_refused_whoever_wrote_it(content: bytes, says: str, own: bool) -> None:
    with pytest.raises(ValueError, match=says):
        strict_json.parse(content, own=own)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"NaN", "NaN is not finite"),
        (b'{"rope_theta": Infinity}', "Infinity is not finite"),
        (b"[-Infinity]", "-Infinity is not finite"),
        (b"1e999", "1e999 is not finite"),
        (b"18446744073709551616", "beyond 64 bits"),
        (b"-9223372036854775809", "beyond 64 bits"),
        (b"\xef\xbb\xbf{}", "BOM"),
    ],
)
def test_our_own_documents_have_no_such_numbers_and_no_mark(content: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        strict_json.parse(content)
    strict_json.parse(content, own=False)  # other programs write them


def test_a_whole_pair_written_as_two_escapes_is_one_character() -> None:
    assert strict_json.parse(b'"\\ud83d\\ude00"') == "\U0001f600"
    assert strict_json.parse(b'"\\\\ud83d"') == "\\ud83d"  # an escaped backslash, then letters


@pytest.mark.parametrize("number", [-(2**63), 2**64 - 1, 2**63, 0])
def test_whole_numbers_of_64_bits_are_ours(number: int) -> None:
    assert strict_json.parse(str(number).encode()) == number


@pytest.mark.parametrize(
    ("content", "said"), [("9" * 40, "9" * 40), ("9" * 41, "9" * 40 + "…"), (str(2**64), str(2**64))]
)
def test_of_a_number_beyond_them_the_beginning_is_shown(content: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"^number {said} is beyond 64 bits$"):
        strict_json.parse(content.encode())


def test_a_number_has_at_most_four_hundred_characters() -> None:
    assert strict_json.parse(b"1" * 400, own=False) == int("1" * 400)
    assert strict_json.parse(b"0." + b"1" * 398) == strict_json.parse(b"0." + b"1" * 398, own=False) == 1 / 9
    for content in (b"1" * 401, b"0." + b"1" * 399):
        for own in (True, False):
            with pytest.raises(ValueError, match=r"^a number has 401 digits$"):
                strict_json.parse(content, own=own)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("1e999", ""),
        ('{"a": 1.5, "b": 2, "c": null, "d": "NaN", "e": true}', None),
        ('{"a": [], "b": {"c": [0.5, NaN, Infinity]}}', "b.c[1]"),
        ('{"a": {"b": 1e999}, "c": NaN}', "a.b"),
        ("[[1], [2, [-Infinity]]]", "[1][1][0]"),
        ('{"limit": [0.0, Infinity], "a": {"limit": {"b": NaN}}}', None),
        ('{"limits": Infinity}', "limits"),
    ],
)
def test_the_first_number_that_is_not_finite_is_named(content: str, place: str | None) -> None:
    value = strict_json.parse(content.encode(), own=False)
    assert strict_json.not_finite(value, unbounded={"limit"}) == place


def test_no_depth_that_the_parser_takes_is_too_deep() -> None:
    deep = "[" * 500 + "NaN" + "]" * 500
    assert strict_json.not_finite(strict_json.parse(deep.encode(), own=False)) == "[0]" * 500
