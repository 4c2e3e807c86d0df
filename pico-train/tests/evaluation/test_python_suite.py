"""The shipped pairs of Python: Python itself says which of two texts is right, and which is not."""

from __future__ import annotations

import ast
import hashlib
import json
from collections import Counter

import pytest

from pico_train.errors import UsageError
from pico_train.evaluation import python_suite
from pico_train.evaluation.tasks import parse

BALANCED = ("brackets", "quotes", "in_or_as")


@pytest.fixture(scope="module")
def pairs():
    return python_suite.pairs()


def test_there_are_eight_phenomena_of_fifty_different_pairs(pairs):
    assert Counter(phenomenon for phenomenon, _, _ in pairs) == dict.fromkeys(python_suite.TEMPLATES, 50)
    assert len(python_suite.TEMPLATES) == 8 and len(set(pairs)) == 400


def test_python_takes_the_right_text_and_refuses_the_wrong_one(pairs):
    for _, good, bad in pairs:
        ast.parse(good)
        with pytest.raises(SyntaxError):
            ast.parse(bad)


def test_texts_of_a_pair_hold_the_same_characters_or_differ_in_one_token_of_two_kinds(pairs):
    forms: dict[str, Counter[str]] = {name: Counter() for name in BALANCED}
    for phenomenon, good, bad in pairs:
        assert len(good) == len(bad)
        if phenomenon in BALANCED:
            changed = [(one, two) for one, two in zip(good, bad, strict=True) if one != two]
            forms[phenomenon]["".join(one for one, _ in changed)] += 1
        else:
            assert sorted(good) == sorted(bad), phenomenon
    # one character of a bracket or quote; both of `in` and `as`
    assert {name: sorted(counts.items()) for name, counts in forms.items()} == {
        "brackets": [(")", 25), ("]", 25)],
        "quotes": [('"', 25), ("'", 25)],
        "in_or_as": [("as", 25), ("in", 25)],
    }


def test_they_are_the_same_every_time(pairs):
    """Results of other times are of these pairs: whoever changes them gives the task another name."""
    assert hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:16] == "c7360cc085d900d7"


def test_a_file_of_pairs_is_another_task():
    assert parse("python-pairs").kind == "python-pairs"
    with pytest.raises(UsageError, match=r"those of a file are pairs:x\.jsonl"):
        parse("python-pairs:x.jsonl")
