"""How a mistake in a configuration is told: one sentence that names the setting, its value, and what to do.

Decides the words alone. What is a mistake, `schema` says; where a value stands in a file, `layers` knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from pico_train.config.describe import fields, is_section
from pico_train.config.schema import RunConfig

Path = tuple[str, ...]
"""Names of sections and a field that lead to a setting."""

_SHOULD_BE = "Input should be "
_EXPECTED = {"tuple_type": "input should be a list", "model_type": "input should be a valid dictionary"}


def sentences(error: ValidationError, place: Callable[[Path], str]) -> str:
    """Return all mistakes, one sentence each, with semicolons between them.

    Args:
        error: what validation found.
        place: what a sentence about a setting begins with, such as ``"run.yaml, line 3: "``; empty if it is not known.
    """
    found = _joined(error.errors(include_url=False))
    return "; ".join(dict.fromkeys(_sentence(item, place) for item in found))


def _joined(items: Iterable[Any]) -> list[dict[str, Any]]:
    """The mistakes, those of one value that could have been several things as one: it is no number nor a known word."""
    found: list[dict[str, Any]] = []
    for item in items:
        before = found[-1] if found else None
        if before is None or not _is_of_one_value(before, item):
            found.append(dict(item))
            continue
        before["msg"] += f" or {item['msg'].removeprefix(_SHOULD_BE)}"
        if before["type"] == "literal_error":
            before["type"] = item["type"]  # a text where a number could stand is told to be a text
    return found


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return a hint at the nearest of `names`, to follow what is said of `name`; empty if none is near."""
    near = get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}" if near else ""


def _is_of_one_value(one: Any, other: Any) -> bool:
    told = one["msg"].startswith(_SHOULD_BE) and other["msg"].startswith(_SHOULD_BE)
    return told and one["input"] is other["input"] and _path(one) == _path(other)


def _path(item: Any) -> list[str]:
    """Names that lead to the setting."""
    path = [str(part) for part in item["loc"]]
    while path and _fields_at(path[:-1]) is None:  # a member of a union adds its own name, an item its number
        path.pop()
    return path


def _sentence(item: Any, place: Callable[[Path], str]) -> str:
    path = _path(item)
    known = _fields_at(path[:-1])
    key, where = ".".join(path), place(tuple(path))
    if item["type"] == "extra_forbidden":
        names = list(known or ())
        near = _elsewhere(path) or did_you_mean(path[-1], names) or _alike(path)
        inside = f" in {'.'.join(path[:-1])}" if path[:-1] else ""
        return f"{where}unknown setting {key!r}{near}: known{inside} are {', '.join(names)}"
    message = str(item["msg"]).removeprefix("Value error, ")
    message = _EXPECTED.get(item["type"], message)
    message = message[:1].lower() + message[1:] if message[:5] == "Input" else message
    if not key:
        return f"{where}{message}"
    if item["type"] == "value_error":
        return f"{where}{key}: {message}"
    return f"{where}{key}: {message}, but it is {_shown(item['input'], item['type'])}"


def _shown(value: Any, problem: str) -> str:
    is_word = value is None or isinstance(value, bool)
    text = {True: "true", False: "false", None: "null"}[value] if is_word else repr(value)
    text = text if len(text) <= 80 else text[:79] + "…"
    if problem == "string_type" and not isinstance(value, list | dict):
        return f"{text}: quote it if it is text"
    if problem in ("int_type", "float_type", "bool_type") and isinstance(value, str):
        return f"the text {text}"
    return text


def _fields_at(path: Iterable[str]) -> list[str] | None:
    model: Any = RunConfig
    for part in path:
        field = model.model_fields.get(part) if is_section(model) else None
        model = field.annotation if field else None
    return list(model.model_fields) if is_section(model) else None


def _elsewhere(path: list[str]) -> str:
    """A hint at a setting of this name in another place, the nearest to where it was looked for."""

    def shared(other: str) -> tuple[int, int]:
        parts = other.split(".")
        same = next((n for n, (one, two) in enumerate(zip(path, parts, strict=False)) if one != two), len(path))
        return -same, len(parts)

    named = sorted((other for other in fields() if other.rpartition(".")[2] == path[-1]), key=shared)
    return f"; did you mean {named[0]!r}" if named else ""


def _alike(path: list[str]) -> str:
    """A hint at a setting whose whole path is much like this one."""
    near = get_close_matches(".".join(path), list(fields()), n=1, cutoff=0.75)
    return f"; did you mean {near[0]!r}" if near else ""
