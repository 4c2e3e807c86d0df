"""Nested results as flat ones: ``{"paloma": {"perplexity": 31.4}}`` is ``paloma.perplexity`` = 31.4."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pico_schema.errors import DocumentError


def flat_results(results: Mapping[str, Any]) -> dict[str, float]:
    """Results by dotted name, in their order; what is not a number is left out, as are true and false.

    For the tasks of an `Evaluation`, which revisions publish and analysis correlates with, and for the result files of
    other programs.

    Args:
        results: Numbers, and mappings of such, to any depth.

    Raises:
        DocumentError: an integer is too large for a floating-point number.
    """
    flat: dict[str, float] = {}
    # Levels are kept here, not on the interpreter's stack: a foreign file may nest deeper than that.
    levels: list[tuple[str, Iterator[tuple[str, Any]]]] = [("", iter(results.items()))]
    while levels:
        prefix, level = levels[-1]
        for key, value in level:
            if isinstance(value, Mapping):
                levels.append((f"{prefix}{key}.", iter(value.items())))
                break
            if isinstance(value, int | float) and not isinstance(value, bool):
                flat[f"{prefix}{key}"] = _number(value, f"{prefix}{key}")
        else:
            levels.pop()
    return flat


def _number(value: float, name: str) -> float:
    try:
        return float(value)
    except OverflowError:
        raise DocumentError(f"result {name} is too large for a floating-point number") from None
