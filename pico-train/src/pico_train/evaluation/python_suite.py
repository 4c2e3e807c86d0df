"""The shipped minimal pairs of Python: 8 phenomena of its grammar × 50 pairs, from templates written for this project.

    brackets, quotes       what was opened is closed by its own kind
    in and as              `for … in`, `import … as`
    places                 of the colon of a block, of the comma of a list, of the words of an import, of a condition
                           and of a handler

Of each pair Python takes the right text and refuses the wrong one. In brackets, quotes, and in and as, half of the
pairs have each form, so that a model which likes one token best is right in half of them; everywhere else both texts
hold the same characters, in another order. Chance is 50 %.

They are for models that read code, such as the demo's, which reads Python's own library; one of prose has no chance.
"""

from __future__ import annotations

import random
from collections.abc import Callable

PAIRS = 50
"""Pairs of each phenomenon."""


def _words(text: str) -> list[str]:
    return text.split()


_NAMES = _words("name value key item line data path text node result index size count other mode flags")
_MANY = _words("names values keys items lines args parts nodes results files groups tokens")
_CALLS = _words("len str list open repr int sorted dict")
_METHODS = _words("append join get read write split close update")
_MODULES = _words("os sys re io time types functools collections warnings itertools")
_ERRORS = _words("ValueError TypeError KeyError OSError IndexError AttributeError")

Template = Callable[[random.Random, bool], tuple[str, str]]
"""Draws words; with the one form or the other gives the right text and the wrong one."""


def pairs() -> list[tuple[str, str, str]]:
    """Phenomenon, right and wrong text of all pairs, phenomenon by phenomenon: the same every time."""
    return [pair for name in TEMPLATES for pair in _of(name)]


def _of(name: str) -> list[tuple[str, str, str]]:
    chance, made = random.Random(f"pico python pairs {name}"), dict[tuple[str, str], None]()
    while len(made) < PAIRS:
        made.setdefault(TEMPLATES[name](chance, len(made) % 2 == 0))
    return [(name, good, bad) for good, bad in made]


def _brackets(r: random.Random, is_round: bool) -> tuple[str, str]:
    target, (one, two) = r.choice(_NAMES), r.sample(_NAMES, 2)
    head, good, bad = (
        (f"{target} = {r.choice(_CALLS)}({one}, {two}", ")", "]")
        if is_round
        else (f"{target} = {r.choice(_MANY)}[{one}, {two}", "]", ")")
    )
    return f"{head}{good}\n", f"{head}{bad}\n"


def _quotes(r: random.Random, single: bool) -> tuple[str, str]:
    good, bad = ("'", '"') if single else ('"', "'")
    head = f"{r.choice(_NAMES)} = {r.choice(_MANY)}[{good}{r.choice(_NAMES)}"
    return f"{head}{good}]\n", f"{head}{bad}]\n"


def _in_or_as(r: random.Random, loop: bool) -> tuple[str, str]:
    if loop:
        head, tail = f"for {r.choice(_NAMES)}", f"{r.choice(_MANY)}:\n    pass\n"
        return f"{head} in {tail}", f"{head} as {tail}"
    head, tail = f"import {r.choice(_MODULES)}", f"{r.choice(_NAMES)}\n"
    return f"{head} as {tail}", f"{head} in {tail}"


def _colon(r: random.Random, condition: bool) -> tuple[str, str]:
    head = f"if {r.choice(_NAMES)} is None" if condition else f"for {r.choice(_NAMES)} in {r.choice(_MANY)}"
    body = f"    {r.choice(_NAMES)} = {r.choice(_NAMES)}"
    return f"{head}:\n{body}\n", f"{head}\n{body}:\n"


def _comma(r: random.Random, call: bool) -> tuple[str, str]:
    one, two, three = r.sample(_NAMES, 3)
    head, end = (f"{r.choice(_NAMES)}.{r.choice(_METHODS)}(", ")\n") if call else (f"{r.choice(_MANY)} = [", "]\n")
    return f"{head}{one}, {two}, {three}{end}", f"{head}{one} {two}, {three},{end}"


def _import(r: random.Random, several: bool) -> tuple[str, str]:
    module = r.choice(_MODULES)
    what = ", ".join(r.sample(_NAMES, 2 if several else 1))
    return f"from {module} import {what}\n", f"import {module} from {what}\n"


def _condition(r: random.Random, negated: bool) -> tuple[str, str]:
    name, other, many = r.choice(_NAMES), r.choice(_NAMES), r.choice(_MANY)
    if negated:
        tail = f"{many}:\n    {name} = {other}\n"
        return f"if {name} not in {tail}", f"if {name} in not {tail}"
    last = r.choice(("None", "0", "1", "True", "False"))
    return f"{name} = {other} if {many} else {last}\n", f"{name} = {other} else {many} if {last}\n"


def _handler(r: random.Random, named: bool) -> tuple[str, str]:
    error = r.choice(_ERRORS) + (" as error" if named else "")
    first, second = f"    {r.choice(_NAMES)}.{r.choice(_METHODS)}()\n", "    pass\n"
    return f"try:\n{first}except {error}:\n{second}", f"except:\n{first}try {error}:\n{second}"


TEMPLATES: dict[str, Template] = {
    "brackets": _brackets,
    "quotes": _quotes,
    "in_or_as": _in_or_as,
    "place_of_colon": _colon,
    "place_of_comma": _comma,
    "order_of_import": _import,
    "order_of_condition": _condition,
    "order_of_handler": _handler,
}
"""By phenomenon."""
