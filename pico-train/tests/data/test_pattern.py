r"""Patterns of pre-tokenizers: what is said to be impossible in a match is, by the library's own matching."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tokenizers_of_all_kinds import CL100K, O200K
from tokenizers import Regex, pre_tokenizers

from pico_train.data.cutting import GPT2
from pico_train.data.pattern import KINDS, WHITE, UnreadablePattern, kind, read, read_literal

NONE = KINDS - WHITE
OF_MODELS = {
    "gpt2": GPT2,
    "cl100k": CL100K,
    "o200k": O200K,
    "qwen2": CL100K.replace("{1,3}", ""),
    "words": r"\w+|[^\w\s]+",
    "digits": r"\p{Nd}{3}|\d|[0-9a-f]{2,}",
    "ranges": r"[一-龥぀-ヿ]+|[^\S\n]|[\x{41}-\x5a\u00e0-]+",
    "groups": r"(?:a|b )c?|(\p{L}(?i:x y){2})|\s{2,}",
}


@pytest.mark.parametrize("name", OF_MODELS)
@given(text=st.text(alphabet="aZx yzb09½é\u0301漢カ.,'s/-\r\n\t\u3000_\U0001f600", max_size=30))
def test_what_stands_side_by_side_in_a_match_is_foreseen(name: str, text: str) -> None:
    part = read(OF_MODELS[name])
    splitter = pre_tokenizers.Split(Regex(OF_MODELS[name]), "removed", invert=True)
    for match, _ in splitter.pre_tokenize_str(text):
        assert len(match) >= part.least > 0
        assert kind(match[0]) in part.first
        assert kind(match[-1]) in part.last
        assert {(kind(a), kind(b)) for a, b in pairwise(match)} <= part.pairs


@pytest.mark.parametrize("name", OF_MODELS)
@given(
    before=st.text(alphabet="aZx y09½é漢.,'\r\n\t_", max_size=6),
    char=st.sampled_from(" \n\ra9é.\t_"),
    after=st.text(alphabet="aZx y09½é漢.,'\r\n\t_", max_size=6),
)
def test_a_match_begins_at_each_character_that_is_one_by_itself(name: str, before: str, char: str, after: str) -> None:
    """Unless a match before it holds it: then the pair of the two is foreseen."""
    part = read(OF_MODELS[name])
    if kind(char) not in part.single or (before and (kind(before[-1]), kind(char)) in part.pairs):
        return
    text = before + char + after
    splitter = pre_tokenizers.Split(Regex(OF_MODELS[name]), "removed", invert=True)
    assert len(before) in {start for _, (start, _) in splitter.pre_tokenize_str(text)}


def test_published_patterns_never_hold_a_space_behind_something_else() -> None:
    for name in ("gpt2", "cl100k", "o200k", "qwen2"):
        part = read(OF_MODELS[name])
        assert not {(before, "space") for before in NONE} & part.pairs
        assert {"space", "newline"} <= part.single
    # Punctuation takes the line end after it along; and a slash after that, in the newest.
    assert ("other", "newline") in read(CL100K).pairs
    assert ("newline", "other") in read(O200K).pairs
    assert ("newline", "other") not in read(CL100K).pairs


@pytest.mark.parametrize(
    "pattern",
    [*(r"\bx", r"^x", r"x$", r"(?<=a)b", r"(?=a)b", r"(?!a)b", r"(a)\1", r"[a&&b]", r"[[:alpha:]]", r"[a[b]]", r"(a"),
     *(r"a)", "[", r"\p{Greek_Extended}", r"\pL", r"(?x: a b)", r"*a", "(" * 5000, r"[z-a]", "\\", r"\h", r"(?#a)b")],
)  # fmt: skip
def test_what_is_not_read_promises_nothing(pattern: str) -> None:
    with pytest.raises(UnreadablePattern):
        read(pattern)


def test_plain_text_is_what_it_is() -> None:
    part = read_literal("a. b")
    assert part.pairs == {("letter", "other"), ("other", "space"), ("space", "letter")}
    assert (part.least, part.first, part.last) == (4, {"letter"}, {"letter"})
