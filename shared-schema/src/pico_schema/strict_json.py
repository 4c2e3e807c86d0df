"""JSON in which every text means one thing: what Python's own parser takes on trust is refused here.

Python's parser keeps the last of two equal keys, reads ``NaN`` and ``1e999``, guesses encodings, and gives texts with
half a surrogate pair, which cannot be written anywhere again. A file that has such a thing is damaged or hostile; read
by two programs it would say two things. Who reads a file says what its bounds are and what its fields mean.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection
from typing import Any

_MOST_DIGITS = 400
"""Longest number in characters. The largest float has 309 digits before the point."""
_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")


def parse(content: bytes | bytearray | memoryview, *, own: bool = True) -> Any:
    """The value that a JSON text in UTF-8 stands for.

    Args:
        content: The text.
        own: A document or header of ours: numbers are finite, whole ones of at most 64 bits. Other programs write
            ``Infinity``, and 10^30 for "no limit"; their files are read without this, and numbers may be either.

    Raises:
        ValueError: not JSON, or JSON that two readers could understand differently: a key twice in one object, a
            number beyond its bounds, half a surrogate pair; nested too deeply to be read. One plain sentence.
    """
    raw = bytes(content)
    try:
        text = raw.decode("utf-8" if own else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text (byte {error.start})") from None
    reject: Callable[[str], Any] | None = _not_finite if own else None
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_own_integer if own else _integer,
            parse_float=_own_float if own else _float,
            parse_constant=reject,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if _HALF_PAIR.search(raw):
        _check_pairs(value)
    return value


def not_finite(value: Any, *, unbounded: Collection[str] = ()) -> str | None:
    """Where the first number that is not finite stands in a parsed value, as ``rope_parameters.rope_theta``; or None.

    Args:
        value: What `parse` gave without `own`.
        unbounded: Keys below which other programs mean it: "no limit".
    """
    left = [("", value)]
    while left:
        place, item = left.pop()
        if isinstance(item, float) and not math.isfinite(item):
            return place
        if isinstance(item, dict):
            left += [(f"{place}.{key}" if place else key, of) for key, of in item.items() if key not in unbounded][::-1]
        elif isinstance(item, list):
            left += [(f"{place}[{n}]", of) for n, of in enumerate(item)][::-1]
    return None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"key {twice[:100]!r} is there twice in one object")
    return found


def _integer(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"a number has {len(text)} digits")
    return int(text)


def _own_integer(text: str) -> int:
    number = _integer(text)
    if not -(2**63) <= number < 2**64:
        raise ValueError(f"number {text[:40]}{'…' if len(text) > 40 else ''} is beyond 64 bits")
    return number


def _float(text: str) -> float:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"a number has {len(text)} digits")
    return float(text)


def _own_float(text: str) -> float:
    number = _float(text)
    return number if math.isfinite(number) else _not_finite(text)


def _not_finite(text: str) -> float:
    raise ValueError(f"number {text[:40]} is not finite")


def _check_pairs(value: Any) -> None:
    """Refuse a text with half a surrogate pair; `value` is no deeper than the parser went."""
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, dict):
            left += [*item, *item.values()]
        elif isinstance(item, list):
            left += item
        elif isinstance(item, str):
            try:
                item.encode()
            except UnicodeEncodeError:
                raise ValueError(f"text {item[:100]!r} has half a surrogate pair: it is no character") from None
