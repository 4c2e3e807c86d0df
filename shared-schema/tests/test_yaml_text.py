"""YAML as people write it: what is read is what YAML 1.2 says, or one sentence says why not."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from pico_schema import yaml_text
from pico_schema.errors import YamlError

SCALARS = {  # after the tables and examples of YAML 1.2.2, sections 10.2 and 10.3
    **dict.fromkeys(["null", "Null", "NULL", "~", ""]),
    **dict.fromkeys(["true", "True", "TRUE"], True),
    **dict.fromkeys(["false", "False", "FALSE"], False),
    "0": 0, "-19": -19, "+5": 5, "0o7": 7, "0x3A": 58, "0100": 100, "08": 8,
    "0.": 0.0, "-0.0": -0.0, ".5": 0.5, "+12e03": 12000.0, "-2E+05": -200000.0, "1e5": 1e5, "3e-4": 3e-4,
    ".inf": math.inf, "-.Inf": -math.inf, "+.INF": math.inf,
    # Text in 1.2, though something else in 1.1, in Python or in the eyes of a hurried reader.
    **{text: text for text in [
        "on", "off", "yes", "No", "y", "tRUE", "nULL", "None", "1:30", "190:20:30", "1_000", "0b101", "0o8", "0x",
        "-0x1", "2026-11-26", "2026-11-26T10:00:00Z", "1e", "e5", "inf", "nan", "+", "7e1x", "1,5", "=", "1.2.3", "٣",
    ]},
}  # fmt: skip


@pytest.mark.parametrize("text", SCALARS)
def test_a_plain_scalar_is_what_the_core_schema_says(text: str) -> None:
    value = yaml_text.parse(f"a: {text}\n", where="f").value["a"]
    assert (type(value), value) == (type(SCALARS[text]), SCALARS[text])
    assert yaml_text.parse_value(text, where="f") == SCALARS[text]


@pytest.mark.parametrize("text", [text for text in SCALARS if "'" not in text])
@pytest.mark.parametrize("quote", ["'", '"'])
def test_in_quotes_it_is_text(text: str, quote: str) -> None:
    assert yaml_text.parse(f"a: {quote}{text}{quote}", where="f").value == {"a": text}
    assert yaml_text.parse(f"a: !!str {text}", where="f").value == {"a": text}


def test_not_a_number_is_one() -> None:
    assert math.isnan(yaml_text.parse("a: .nan", where="f").value["a"])


@pytest.mark.parametrize(
    ("tagged", "value"),
    [
        ("!!int '5'", 5),
        ("!!float 5", 5.0),
        ("!!bool 'true'", True),
        ("!!null ''", None),
        ("! 5", "5"),
        ("!!seq [1]", [1]),
    ],
)
def test_tags_of_the_core_schema_are_read(tagged: str, value: object) -> None:
    found = yaml_text.parse(f"a: {tagged}", where="f").value["a"]
    assert (type(found), found) == (type(value), value)


def test_anchors_stand_for_what_they_name() -> None:
    text = "a: &cadence {early: 8}\nb: *cadence\nc: [*cadence, &x 1, *x]\n&key d: *key\n"
    assert yaml_text.parse(text, where="f").value == {
        "a": {"early": 8}, "b": {"early": 8}, "c": [{"early": 8}, 1, 1], "d": "d",
    }  # fmt: skip


BOMB = "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
REFUSED = {
    "a: 1\nb: 2\na: 3\n": "line 3: the key 'a' stands twice (first in line 1)",
    "a: {b: 1, 'b': 2}": "line 1: the key 'b' stands twice",
    "a: {x: 1}\nb: {<<: {y: 1}}": "line 2: << is no key of YAML 1.2",
    "a: 7e12345": "line 1: 7e12345 is too large for a number: quote it",
    "a: " + "9" * 5000: "line 1: a number of 5,000 characters",
    "a:\t1": "line 1: not valid YAML (a tab, where YAML has spaces)",
    "a:\n\tb: 1": "line 2: not valid YAML (a tab",
    b"a: 1\nb: \xff": "line 2: not UTF-8",
    "a: é".encode("utf-16"): "not UTF-8",
    "a: \x00": "line 1: not valid YAML (the control character U+0000)",
    "a: x\u2028y": "line 1: it has the character U+2028",
    'a: "\\ud800"': "line 1: half of a surrogate pair",
    'a: "\\U00110000"': "line 1: not valid YAML",
    "a: 1\n---\nb: 1": "line 2: a second document begins here",
    "---\n---\n": "a second document",
    "%YAML 1.1\n---\na: on": "line 1: it asks for YAML 1.1",
    "a: !!python/object/apply:os.system [ls]": "line 1: the tag !!python/object/apply:os.system is not one of",
    "a: !!python/name:os.system ''": "line 1: the tag !!python/name:os.system",
    "a: !!timestamp 2026-11-26": "the tag !!timestamp",
    "a: !mine {b: 1}": "the tag !mine",
    "a: !!int 1.5": "'1.5' is not what its tag !!int says",
    "a: &x [*x]": "line 1: *x is inside what it refers to",
    "a: *x": "line 1: *x refers to nothing",
    "1: a": "line 1: the key 1 is not text",
    "{~: a}": "the key ~ is not text",
    "? [a]\n: b": "a key is text",
    "k" * 257 + ": 1": "line 1: a key has 257 characters",
    "a: [1,\n  2\n": "line 3: not valid YAML",
    "a: b: c": "line 1: not valid YAML",
    "x" * 140_000: "too long to be read (at most 128 KiB)",
    "[" * 100_000: "more than 32 mappings and lists are inside one another",
    "{a: " * 20_000: "more than 32",
    "- " * 60_000: "more than 32",
    "? " * 60_000: "a key is text",
    "a: &a [x,x,x,x,x,x,x,x,x]\n" + BOMB: "line 6: with its aliases written out, this is more than 1,048,576",
    "a: &a " + "x" * 100_000 + "\nb: [" + "*a," * 11 + "]": "with its aliases written out",
}


@pytest.mark.parametrize("text", REFUSED, ids=[str(text)[:24] for text in REFUSED])
def test_what_is_refused_says_why_in_one_line_and_soon(text: str | bytes) -> None:
    began = time.process_time()
    with pytest.raises(YamlError) as caught:
        yaml_text.parse(text, where="f.yaml")
    assert time.process_time() - began < 10, "seconds, where all aliases written out would need hours"
    message = str(caught.value)
    assert REFUSED[text] in message and message.startswith("f.yaml") and "\n" not in message and len(message) < 200
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("text", ["a: &a [x,x,x,x,x,x,x,x,x]\n" + BOMB, "[" * 100_000, "x" * 10_000_000])
def test_hostile_texts_take_little_memory(text: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(YamlError):
            yaml_text.parse(text, where="f.yaml")
        # Besides the text itself, which is encoded once to count its bytes.
        assert tracemalloc.get_traced_memory()[1] < len(text) + 4 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "text",
    ["x #y", "#x", "[1] #c", "a: b", "- a", "---", "--- a", "...", "*.txt", "!x", "a\nb", "a\rb", "[a", "@x", "\ud800"],
)
def test_a_word_is_its_value_as_a_whole(text: str) -> None:
    with pytest.raises(YamlError, match=r"^--set a: "):
        yaml_text.parse_value(text, where="--set a")


def test_a_word_may_be_a_list_or_mapping_in_brackets() -> None:
    assert yaml_text.parse_value("[a, 'b', {c: 1}] ", where="f") == ["a", "b", {"c": 1}]
    assert yaml_text.parse_value("'a #b'", where="f") == "a #b"
    assert yaml_text.parse_value("C:\\data", where="f") == "C:\\data"


def test_nothing_is_null() -> None:
    for text in ("", "# only a comment\n", "---\n", "\ufeff"):
        assert yaml_text.parse(text, where="f").value is None


def test_values_know_their_line() -> None:
    found = yaml_text.parse("a:\n  b: 1\n  c:\n    - 5\n    - {d: 6}\n", where="f")
    assert [found.line(p) for p in [("a", "b"), ("a", "c"), ("a", "c", 1, "d"), ("a", "c", 1, "x", 0)]] == [2, 3, 5, 5]
    assert yaml_text.parse("", where="f").line(("a",)) is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
def test_a_named_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.yaml")
    with pytest.raises(YamlError, match=r"config\.yaml: a named pipe, from which nothing may ever come: give a file"):
        yaml_text.read(tmp_path / "config.yaml")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(YamlError, match=r"none\.yaml: cannot be read"):
        yaml_text.read(tmp_path / "none.yaml")
    (tmp_path / "f.yaml").write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    assert yaml_text.read(tmp_path / "f.yaml").value == {"a": 1, "b": 2}


TRAPS = st.sampled_from(
    ["1e5", "on", "null", "~", "0x10", "2026-11-26", "", "0100", "1:30", "<<", "=", "-", "#", "a: b", "- a", " a", "a ",
     "'", '"', "\n", "a\n b", "\x85", "\u2028", "\ufeff", "\x00", "\x7f", "!x", "&a", "*a", "%", "@", "`", "1_000",
     ".inf", "y"]
)  # fmt: skip
TEXTS = st.one_of(TRAPS, st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=12,
)


@given(VALUES)
@example(["7e12345", "9" * 1000])
def test_what_is_written_is_read_back_the_same_by_1_2_and_1_1(value: Any) -> None:
    text = yaml_text.dump(value)
    assert _typed(yaml_text.parse(text, where="f").value) == _typed(value)
    assert _typed(yaml.safe_load(text)) == _typed(value)


PRINTABLE = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn", "Co", "Zl", "Zp"]), max_size=12)
NUMBERS = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, PRINTABLE),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(PRINTABLE, inner, max_size=4)),
    max_leaves=12,
)


@given(JSON)
def test_json_means_the_same(value: Any) -> None:
    # YAML 1.2 holds JSON: Python's own reader of JSON is the oracle.
    text = json.dumps(value, ensure_ascii=False)
    assert _typed(yaml_text.parse(text, where="f").value) == _typed(json.loads(text))


@given(st.one_of(st.text(max_size=80), st.text(" \n\t-?:,[]{}#&*!|>'\"%@`<~ab01.e+\\xuU", max_size=60)))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    for reader in (yaml_text.parse, yaml_text.parse_value):
        try:
            reader(text, where="f")
        except YamlError as error:
            assert len(str(error).splitlines()) == 1


def _typed(value: Any) -> Any:
    """With the types of scalars, so that 1, 1.0 and True differ."""
    if isinstance(value, dict):
        return {key: _typed(item) for key, item in value.items()}
    return [_typed(item) for item in value] if isinstance(value, list) else (type(value).__name__, value)


def test_the_contract_needs_no_yaml_and_without_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['yaml'] = None\nimport pico_schema\n"
        "try:\n    import pico_schema.yaml_text\nexcept ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "reading YAML needs PyYAML: pip install 'pico-schema[yaml]'"
