"""The shipped pairs, checked by rules of grammar that are written here: right ones follow them, wrong ones do not."""

from __future__ import annotations

import hashlib
import json
from collections import Counter

import pytest

from pico_train.evaluation import suite

PLURALS = {"children", "women", "men"}
FEMALE = {"girl", "woman", "queen", "mother", "sister", "daughter", "mary", "anna", "susan", "alice"}
MALE = {"boy", "man", "king", "father", "brother", "son", "john", "peter", "david", "thomas"}
NAMES = {"mary", "anna", "susan", "alice", "john", "peter", "david", "thomas"}
PREPOSITIONS = {"near", "behind", "beside", "in"}
SINGULAR_VERB = {"is", "has"}
PLURAL_VERB = {"are", "have"}


def is_plural(noun: str) -> bool:
    return noun in PLURALS or noun.endswith("s")


def agrees(noun: str, verb: str) -> bool:
    """A verb in the present with its subject."""
    if verb in SINGULAR_VERB | PLURAL_VERB:
        return (verb in PLURAL_VERB) == is_plural(noun)
    return verb.endswith("s") != is_plural(noun)


def gender(noun: str) -> str:
    singular = {"women": "woman", "men": "man"}.get(noun, noun.removesuffix("s") if noun not in NAMES else noun)
    assert (singular in FEMALE) != (singular in MALE), noun
    return "herself" if singular in FEMALE else "himself"


def head(words: list[str]) -> str:
    """The noun of the subject that a sentence begins with."""
    return words[0] if words[0] in NAMES else words[1]


def negated(words: list[str]) -> bool:
    """Whether the subject of the sentence itself is negative, which reaches `ever`."""
    return words[0] in ("no", "few")


def across_phrase(words: list[str]) -> bool:
    assert words[2] in PREPOSITIONS and is_plural(words[4]) != is_plural(words[1])
    return agrees(words[1], words[5])


def across_clause(words: list[str]) -> bool:
    assert words[2] == "that" and agrees(words[4], words[5]) and is_plural(words[4]) != is_plural(words[1])
    return agrees(words[1], words[6])


def after_there(words: list[str]) -> bool:
    assert (words[2] == "one") != is_plural(words[3])
    return agrees(words[3], words[1])


def reflexive_gender(words: list[str]) -> bool:
    assert not is_plural(head(words)) or head(words) in NAMES
    return next(word for word in words if word.endswith("self")) == gender(head(words))


def reflexive_binding(words: list[str]) -> bool:
    assert gender(words[4]) != gender(words[1]), "the other noun would take the other reflexive"
    return words[-1] == gender(words[1])


def polarity(words: list[str]) -> bool:
    assert "ever" in words and agrees(words[1], words[words.index("ever") - 1])
    return negated(words)


def polarity_scope(words: list[str]) -> bool:
    assert "no" in words, "there is a negation, wherever it is"
    return polarity(words)


def open_clause(words: list[str]) -> bool:
    assert words[:3] in (["who", "did", "the"], ["what", "did", "the"])
    closed = {"whether", "when"} & set(words)
    assert ("that" in words) != bool(closed)
    assert not closed or words[4] in ("ask", "wonder")
    return not closed


RULES = {
    "agreement_next_to_verb": lambda words: agrees(words[1], words[2]),
    "agreement_across_phrase": across_phrase,
    "agreement_across_clause": across_clause,
    "agreement_after_there": after_there,
    "agreement_of_determiner": lambda words: (words[3] in ("these", "those")) == is_plural(words[5]),
    "reflexive_number": lambda words: (
        words[-1] == ("themselves" if is_plural(head(words)) else gender(head(words)))
    ),
    "reflexive_gender": reflexive_gender,
    "reflexive_binding": reflexive_binding,
    "polarity_negation": polarity,
    "polarity_scope": polarity_scope,
    "island_whether": open_clause,
    "island_question": open_clause,
}  # fmt: skip


@pytest.fixture(scope="module")
def pairs():
    return suite.pairs()


def test_there_are_twelve_phenomena_of_fifty_different_pairs(pairs):
    assert Counter(phenomenon for phenomenon, _, _ in pairs) == dict.fromkeys(suite.TEMPLATES, 50)
    assert len(suite.TEMPLATES) == 12 and len(set(pairs)) == 600


def test_of_each_pair_the_right_sentence_follows_the_rule_and_the_wrong_one_does_not(pairs):
    for phenomenon, good, bad in pairs:
        words, others = (sentence.lower().rstrip(".?").split() for sentence in (good, bad))
        assert RULES[phenomenon](words), f"{phenomenon}: {good}"
        assert not RULES[phenomenon](others), f"{phenomenon}: {bad}"
        assert len(words) == len(others) and good[-1] == bad[-1]
        changed = sum(one != other for one, other in zip(words, others, strict=True))
        assert changed == 1 or (phenomenon == "polarity_scope" and sorted(set(words)) == sorted(set(others))) or (
            phenomenon.startswith("island") and changed == 2
        )  # fmt: skip


@pytest.mark.parametrize(
    "phenomenon", [name for name in suite.TEMPLATES if name.startswith(("agreement", "reflexive"))]
)
def test_a_model_that_always_likes_one_form_is_right_in_half(pairs, phenomenon):
    """The word in which they differ: half of the right ones are of each form."""
    forms = Counter()
    for name, good, bad in pairs:
        if name == phenomenon:
            word, other = next(
                (one, two) for one, two in zip(good.split(), bad.split(), strict=True) if one != two
            )  # fmt: skip
            forms["longer" if len(word) > len(other) else "shorter" if len(word) < len(other) else word] += 1
    assert sorted(forms.values()) == [25, 25], forms


def test_they_are_the_same_every_time(pairs):
    """Results of other times are of these pairs: whoever changes them gives the task another name."""
    digest = hashlib.sha256(json.dumps(pairs).encode()).hexdigest()
    assert digest[:16] == "0e9b1c946fba0108"
