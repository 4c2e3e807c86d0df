"""Bounds of YAML: the last text that is read, the first that is refused, and the line that is told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pico_schema import yaml_composer, yaml_text
from pico_schema.errors import YamlError


def parse(text: str | bytes) -> Any:
    return yaml_text.parse(text, where="f").value


def refused(text: str | bytes, says: str) -> None:
    with pytest.raises(YamlError) as caught:
        parse(text)
    assert str(caught.value) == says


def test_a_text_has_at_most_128_kib_as_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "f"
    for longest in ("#" * 131_072, "é" * 65_536):
        path.write_text(longest, encoding="utf-8")
        assert parse(longest) == parse(longest.encode()) == yaml_text.read(path).value
        refused(longest + "#", "f: too long to be read (at most 128 KiB)")
        path.write_text(longest + "#", encoding="utf-8")
        with pytest.raises(YamlError, match=r"f: too long to be read \(at most 128 KiB\)$"):
            yaml_text.read(path)


def test_a_key_has_at_most_256_characters() -> None:
    assert parse("ü" * 256 + ": 1") == {"ü" * 256: 1}
    refused("ü" * 257 + ": 1", "f, line 1: a key has 257 characters (at most 256)")


def test_a_number_has_at_most_400_characters() -> None:
    assert parse("a: " + "1" * 400) == {"a": int("1" * 400)}
    assert parse("a: 0." + "3" * 398) == {"a": 1 / 3}
    for text in ("1" * 401, "0." + "3" * 399):
        refused(f"a: {text}", "f, line 1: a number of 401 characters: quote it if it is text")
        assert parse(f"a: '{text}'") == {"a": text}


def test_digits_of_other_bases_count_as_in_those() -> None:
    assert parse("[0o10, 0o17, 0o777, 0x10, 0xff, 0xFF, 010, 8]") == [8, 15, 511, 16, 255, 255, 10, 8]


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ("{a: ", "}"), ("- ", "")])
def test_thirty_two_lists_or_mappings_may_be_inside_one_another(opening: str, closing: str) -> None:
    found = parse(opening * 32 + "x" + closing * 32)
    for _ in range(32):
        found = found["a"] if isinstance(found, dict) else found[0]
    assert found == "x"
    refused(opening * 33 + "x" + closing * 33, "f, line 1: more than 32 mappings and lists are inside one another")


def size(value: Any) -> int:
    """One for each value, and the characters of texts, keys and numbers, as they are written."""
    if isinstance(value, dict):
        return 1 + sum(len(key) + size(item) for key, item in value.items())
    return 1 + sum(map(size, value)) if isinstance(value, list) else 1 + len(str(value))


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "[a, 12, '']",
        "abc: d",
        "{abc: def, g: [h, i], j: {k: l}}",
        "- - x\n  - yy\n- {}\n",
        "a: &x [b, cc]\nd: *x\ne: [*x, *x]\n",
        "a: &x {bb: ccc}\nd: [*x]\n",
        "&key abc: d\ne: [*key, *key]\n",
    ],
)
def test_values_and_characters_are_counted_with_aliases_written_out(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert yaml_text.MAX_EXPANDED == 1_048_576
    value = parse(text)
    monkeypatch.setattr(yaml_composer, "MAX_EXPANDED", size(value))
    assert parse(text) == value
    monkeypatch.setattr(yaml_composer, "MAX_EXPANDED", size(value) - 1)
    if value:  # what is empty by itself is never too large
        with pytest.raises(YamlError, match="with its aliases written out, this is more than"):
            parse(text)


LONG = "a: &x\n  b: 1\n\nc:\n- 5\n- *x\n-\n  - 6\n  - [7,\n     8]\nd: *x\n"


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ((), 1),
        (("a",), 1),
        (("a", "b"), 2),
        (("a", "none"), 1),
        (("a", "none", "at", "all"), 1),
        (("none",), 1),
        (("c",), 4),
        (("c", 0), 5),
        (("c", 1), 6),
        (("c", 1, "b"), 6),  # what the alias stands for is elsewhere
        (("c", 2, 0), 8),
        (("c", 2, 1, 1), 10),
        (("c", 2, 1, 1, 0, 0), 10),
        (("c", 7), 4),
        (("d",), 11),
        (("d", "b"), 11),
    ],
)
def test_a_value_has_the_line_that_it_or_what_is_around_it_begins_in(path: yaml_text.Place, line: int) -> None:
    assert yaml_text.parse(LONG, where="f").line(path) == line


def test_a_text_of_one_value_has_its_line() -> None:
    found = yaml_text.parse("# a comment\n\n5\n", where="f")
    assert (found.value, found.line(()), found.line(("a", 1))) == (5, 3, 3)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('a: "\\U00110000"', "f, line 1: not valid YAML (an impossible character)"),
        ('a: 1\nb:\n  "\\U00110000"', "f, line 3: not valid YAML (an impossible character)"),
        ("\n\na: \x00", "f, line 3: not valid YAML (the control character U+0000)"),
        ("\n\x07\n", "f, line 2: not valid YAML (the control character U+0007)"),
        ("\x1b", "f, line 1: not valid YAML (the control character U+001B)"),
        (b"\n\xff\n", "f, line 2: not UTF-8: save it in this encoding"),
        (b"\xff", "f, line 1: not UTF-8: save it in this encoding"),
        (b"\n\na: 1\nb: \xff\n", "f, line 4: not UTF-8: save it in this encoding"),
        ("\n\u2029\n", 'f, line 2: it has the character U+2029: write it as "\\u2029", in quotes'),
        ("\na: 1\nb: x\x85y\n", 'f, line 3: it has the character U+0085: write it as "\\u0085", in quotes'),
        ("a:\n  b: 1\n\tc: 2\n", "f, line 3: not valid YAML (a tab, where YAML has spaces)"),
        ("a: 1\n\nb: 'x", "f, line 3: not valid YAML (found unexpected end of stream)"),
        ("%YAML 1.3\n---\n", "f, line 1: it asks for YAML 1.3, and is read as 1.2"),
        ("%YAML 1.1\n---\n", "f, line 1: it asks for YAML 1.1, and is read as 1.2"),
        ("a: 1\nb: 2\nc: 3\nb: 4\n", "f, line 4: the key 'b' stands twice (first in line 2): keep one of them"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str | bytes, says: str) -> None:
    refused(text, says)


def test_a_text_may_say_that_it_is_yaml_1_2() -> None:
    assert parse("%YAML 1.2\n---\na: on\n") == {"a": "on"}


@pytest.mark.parametrize(
    ("word", "rest"), [("#x", "'#x'"), ("# a b", "'# a b'"), ("1 #x", "'#x'"), ("[1] # y ", "'# y'")]
)
def test_what_would_be_a_comment_of_a_word_is_shown(word: str, rest: str) -> None:
    with pytest.raises(YamlError, match=f"^--set a: {re.escape(rest)} would be a comment: quote the value"):
        yaml_text.parse_value(word, where="--set a")


def test_what_is_written_keeps_its_order_its_letters_and_its_lines() -> None:
    long = "ein schöner " * 40 + "Tag"
    assert yaml_text.dump({"z": 1, "a": {"ü": "é", "b": long}, "list": [1, 2.5, None, True, "on"]}) == (
        f"z: 1\na:\n  ü: é\n  b: {long}\nlist:\n- 1\n- 2.5\n- null\n- true\n- 'on'\n"
    )
