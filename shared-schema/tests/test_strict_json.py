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
