"""What a scalar of YAML means: the core schema of YAML 1.2.2 (section 10.3.2), and nothing that is in 1.1 alone.

`null`, `~` and nothing are null; `true` and `false` are booleans; digits are a whole number in base ten, whatever they
begin with, `0o17` and `0x1f` in the bases they name; `1.5`, `1e5`, `.inf` and `.nan` are floats. All else is text,
such as `on`, `1:30`, `1_000`, `0b1`, `2026-11-26`. No other module of this package knows these forms.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

Scalar = None | bool | int | float | str

MAX_DIGITS = 400
"""Longest number, in characters. The largest float has 309 digits before the point."""

_NULL = re.compile(r"(?:null|Null|NULL|~|)\Z")
_BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
_INT = re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_INFINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)\Z")
_NAN = re.compile(r"\.(?:nan|NaN|NAN)\Z")


def resolve(text: str) -> Scalar:
    """Return the value of a plain scalar.

    Raises:
        ValueError: a number that is longer than `MAX_DIGITS`, or that no float can hold; the message says so.
    """
    for pattern, value_of in _FORMS:
        if pattern.match(text):
            if len(text) > MAX_DIGITS:
                raise ValueError(f"a number of {len(text):,} characters: quote it if it is text")
            value = value_of(text)
            if pattern is _FLOAT and isinstance(value, float) and math.isinf(value):
                raise ValueError(f"{text[:40]} is too large for a number: quote it if it is text")
            return value
    return text


def resolve_as(kind: str, text: str) -> Scalar:
    """Return the value of a scalar whose tag says what it is.

    Args:
        kind: one of `KINDS`.
        text: its characters, from quotes or plain.

    Raises:
        ValueError: it has not the form that its tag says, or as `resolve` says.
    """
    if kind == "str":
        return text
    if not any(pattern.match(text) for pattern in _PATTERNS[kind]):
        raise ValueError(f"{text[:40]!r} is not what its tag !!{kind} says")
    value = resolve(text)
    return float(value) if kind == "float" and isinstance(value, int) else value


def _whole(text: str) -> int:
    base = {"0o": 8, "0x": 16}.get(text[:2])
    return int(text) if base is None else int(text[2:], base)


_FORMS: list[tuple[re.Pattern[str], Callable[[str], Scalar]]] = [
    (_NULL, lambda _: None),
    (_BOOL, lambda text: text[0] in "tT"),
    (_INT, _whole),
    (_FLOAT, float),
    (_INFINITE, lambda text: float(text.replace(".", ""))),
    (_NAN, lambda _: math.nan),
]
_PATTERNS = {"null": (_NULL,), "bool": (_BOOL,), "int": (_INT,), "float": (_INT, _FLOAT, _INFINITE, _NAN)}
KINDS = frozenset({"str", *_PATTERNS})
"""Scalar tags of the core schema, without their prefix."""
