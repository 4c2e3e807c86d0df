"""The shipped minimal pairs: 12 phenomena of English grammar × 50 pairs, made from templates written for this project.

    agreement          of verb and subject: next to it, across a phrase, across a clause, after `there`; of determiners
    reflexives         number, gender, and which noun they may mean
    negative polarity  `ever` with and without a negation, and with one that does not reach it
    wh-islands         questions out of a clause that `whether` or a question word closes

Half of a phenomenon's pairs have each of its two forms (singular and plural, he and she), so that a model which likes
one form best is right in half of them. Both sentences of a pair have equally many words. Chance is 50 %.

In questions and negative polarity the two sentences differ in words that a model may like or not as such, so that those
accuracies may be far from a half before it knows any grammar; the scope of a negation changes the order of words alone.

The words are common ones of English prose; a model of code or of another language has no chance with most of them, and
the numbers say so.
"""

from __future__ import annotations

import random
from collections.abc import Callable

PAIRS = 50
"""Pairs of each phenomenon."""


def _words(text: str) -> list[str]:
    return text.split()


_PEOPLE = _words("boy girl teacher doctor student worker writer child king queen farmer friend neighbor driver")
_THINGS = _words("book table house car door garden letter picture window road bridge river box chair")
_PLACES = _words("garden house city school village park kitchen market")
_WOMEN, _MEN = _words("girl woman queen mother sister daughter"), _words("boy man king father brother son")
_NAMES = {"herself": _words("Mary Anna Susan Alice"), "himself": _words("John Peter David Thomas")}
_ALONE = _words("sleep work run laugh wait sing speak walk")
_WITH = _words("see know like help meet find follow watch")
_PAST = dict(zip(_WITH, _words("saw knew liked helped met found followed watched"), strict=True))
_DONE = dict(zip(_WITH, _words("seen known liked helped met found followed watched"), strict=True))
_THINK, _ASK = _words("say think believe"), _words("ask wonder")
_NEAR = _words("near behind beside")
_SIZE = _words("old new small large red good bad")

Template = Callable[[random.Random, bool], tuple[str, str]]
"""Draws words; with the one form or the other gives the right sentence and the wrong one."""


def pairs() -> list[tuple[str, str, str]]:
    """Phenomenon, right and wrong sentence of all pairs, phenomenon by phenomenon: the same every time."""
    return [pair for name in TEMPLATES for pair in _of(name)]


def _of(name: str) -> list[tuple[str, str, str]]:
    chance, made = random.Random(f"pico pairs {name}"), dict[tuple[str, str], None]()
    while len(made) < PAIRS:
        one = TEMPLATES[name](chance, len(made) % 2 == 0)
        made.setdefault(one)
    return [(name, f"{good[0].upper()}{good[1:]}", f"{bad[0].upper()}{bad[1:]}") for good, bad in made]


def plural(noun: str) -> str:
    """The plural of a noun of this suite."""
    return {"child": "children", "woman": "women", "man": "men", "city": "cities", "box": "boxes"}.get(noun, f"{noun}s")


def third(verb: str) -> str:
    """The third person singular of a verb of this suite."""
    return f"{verb}es" if verb.endswith(("s", "ch")) else f"{verb}s"


def _forms(noun: str, singular: bool) -> tuple[str, str]:
    """The form that is asked for, and the other one."""
    one, many = noun, plural(noun)
    return (one, many) if singular else (many, one)


def _verbs(verb: str, singular: bool) -> tuple[str, str]:
    """The form that agrees, and the one that does not."""
    return (third(verb), verb) if singular else (verb, third(verb))


def _subject_verb(r: random.Random, singular: bool) -> tuple[str, str]:
    noun, _ = _forms(r.choice(_PEOPLE), singular)
    good, bad = _verbs(r.choice(_ALONE), singular)
    where = f"{r.choice(('in', 'near'))} the {r.choice(_PLACES)}"
    return f"the {noun} {good} {where}.", f"the {noun} {bad} {where}."


def _across_phrase(r: random.Random, singular: bool) -> tuple[str, str]:
    """The noun next to the verb has the other number."""
    noun, _ = _forms(r.choice(_THINGS), singular)
    _, attractor = _forms(r.choice(_PEOPLE), singular)
    good, bad = ("is", "are") if singular else ("are", "is")
    head, what = f"the {noun} {r.choice(_NEAR)} the {attractor}", r.choice(_SIZE)
    return f"{head} {good} {what}.", f"{head} {bad} {what}."


def _across_clause(r: random.Random, singular: bool) -> tuple[str, str]:
    first, second = r.sample(_PEOPLE, 2)
    noun, _ = _forms(first, singular)
    _, other = _forms(second, singular)
    inner, _ = _verbs(r.choice(_WITH), not singular)
    good, bad = _verbs(r.choice(_ALONE), singular)
    return f"the {noun} that the {other} {inner} {good}.", f"the {noun} that the {other} {inner} {bad}."


def _there(r: random.Random, singular: bool) -> tuple[str, str]:
    noun, _ = _forms(r.choice(_PEOPLE + _THINGS), singular)
    good, bad = ("is", "are") if singular else ("are", "is")
    count = "one" if singular else r.choice(("two", "three", "many"))
    rest = f"{count} {noun} {r.choice(_NEAR)} the {r.choice(_PLACES)}."
    return f"there {good} {rest}", f"there {bad} {rest}"


def _determiner(r: random.Random, singular: bool) -> tuple[str, str]:
    good, bad = _forms(r.choice(_PEOPLE + _THINGS), singular)
    word = r.choice(("this", "that")) if singular else r.choice(("these", "those"))
    head = f"{r.choice(_PEOPLE)} {_PAST[r.choice(_WITH)]} {word} {r.choice(_SIZE)}"
    return f"the {head} {good}.", f"the {head} {bad}."


def _reflexive_number(r: random.Random, singular: bool) -> tuple[str, str]:
    woman = r.random() < 0.5
    noun, _ = _forms(r.choice(_WOMEN if woman else _MEN), singular)
    own = "herself" if woman else "himself"
    good, bad = (own, "themselves") if singular else ("themselves", own)
    head = f"the {noun} {_PAST[r.choice(_WITH)]}"
    return f"{head} {good}.", f"{head} {bad}."


def _reflexive_gender(r: random.Random, woman: bool) -> tuple[str, str]:
    good, bad = ("herself", "himself") if woman else ("himself", "herself")
    who = r.choice(_NAMES[good]) if r.random() < 0.5 else f"the {r.choice(_WOMEN if woman else _MEN)}"
    head, where = f"{who} {_PAST[r.choice(_WITH)]}", f"in the {r.choice(_PLACES)}."
    return f"{head} {good} {where}", f"{head} {bad} {where}"


def _reflexive_binding(r: random.Random, woman: bool) -> tuple[str, str]:
    """A reflexive means the subject, not a noun inside of it."""
    good, bad = ("herself", "himself") if woman else ("himself", "herself")
    subject, inside = (r.choice(_WOMEN), r.choice(_MEN)) if woman else (r.choice(_MEN), r.choice(_WOMEN))
    head = f"the {subject} {r.choice(_NEAR)} the {inside} {_PAST[r.choice(_WITH)]}"
    return f"{head} {good}.", f"{head} {bad}."


def _polarity_negation(r: random.Random, no: bool) -> tuple[str, str]:
    good, bad = r.choice((("no", "the"), ("no", "some"))) if no else ("few", "many")
    noun = r.choice(_PEOPLE) if no else plural(r.choice(_PEOPLE))
    rest = f"{noun} {'has' if no else 'have'} ever {_DONE[r.choice(_WITH)]} the {r.choice(_PEOPLE)}."
    return f"{good} {rest}", f"{bad} {rest}"


def _polarity_scope(r: random.Random, singular: bool) -> tuple[str, str]:
    """The same words: a negation inside of the subject does not reach the verb."""
    first, second = r.sample(_PEOPLE, 2)
    noun, _ = _forms(first, singular)
    inner, has = _PAST[r.choice(_WITH)], "has" if singular else "have"
    rest = f"{has} ever {_DONE[r.choice(_WITH)]} the {r.choice(_THINGS)}."
    return f"no {noun} that the {second} {inner} {rest}", f"the {noun} that no {second} {inner} {rest}"


def _island_whether(r: random.Random, person: bool) -> tuple[str, str]:
    first, second = r.sample(_PEOPLE, 2)
    head, tail = f"{'who' if person else 'what'} did the {first}", f"the {second} {_PAST[r.choice(_WITH)]}?"
    return f"{head} {r.choice(_THINK)} that {tail}", f"{head} {r.choice(_ASK)} whether {tail}"


def _island_question(r: random.Random, person: bool) -> tuple[str, str]:
    first, second = r.sample(_PEOPLE, 2)
    head, verb = f"{'who' if person else 'what'} did the {first}", _PAST[r.choice(_WITH)]
    tail = f"the {second} {verb}?"
    return f"{head} {r.choice(_THINK)} that {tail}", f"{head} {r.choice(_ASK)} when {tail}"


TEMPLATES: dict[str, Template] = {
    "agreement_next_to_verb": _subject_verb,
    "agreement_across_phrase": _across_phrase,
    "agreement_across_clause": _across_clause,
    "agreement_after_there": _there,
    "agreement_of_determiner": _determiner,
    "reflexive_number": _reflexive_number,
    "reflexive_gender": _reflexive_gender,
    "reflexive_binding": _reflexive_binding,
    "polarity_negation": _polarity_negation,
    "polarity_scope": _polarity_scope,
    "island_whether": _island_whether,
    "island_question": _island_question,
}
"""By phenomenon."""
