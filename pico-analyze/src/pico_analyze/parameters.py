"""Parameters of metrics and components: their type, range and help, and the one check that every value passes."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pico_analyze.errors import UsageError, nearest

ParamValue = bool | int | float | str
Given = Mapping[str, object] | Iterable[tuple[str, object]]
"""Parameters by name, or by ``OWNER.name`` for one of several metrics or components."""
_LARGEST_COUNT = 2**31 - 1
_LARGEST = sys.float_info.max


@dataclass(frozen=True)
class Param:
    """One parameter of a metric or a component."""

    default: ParamValue
    help: str
    choices: tuple[ParamValue, ...] = ()
    low: float | None = None
    """Smallest allowed value; None for the smallest that is finite."""
    high: float | None = None
    """Largest allowed value; None for the largest that is finite, or that a count can have."""

    def parse(self, owner: str, name: str, raw: object) -> ParamValue:
        """`raw` (a value, or its text from a command line) as this parameter's type.

        Raises:
            UsageError: wrong type, not one of the choices, out of range.
        """
        value = self._typed(owner, name, raw)
        if self.choices and value not in self.choices:
            allowed = ", ".join(map(str, self.choices))
            hint = nearest(str(value), map(str, self.choices))
            raise UsageError(f"{owner}: {name}={value} is not one of {allowed}{hint}")
        if not isinstance(value, str) and not isinstance(value, bool):
            if math.isnan(value):
                raise UsageError(f"{owner}: {name} is not a number: give one")
            largest = _LARGEST_COUNT if isinstance(value, int) else _LARGEST
            low, high = -largest if self.low is None else self.low, largest if self.high is None else self.high
            if value < low:
                raise UsageError(f"{owner}: {name}={value} is below {low:.12g}, the smallest value allowed")
            if value > high:
                raise UsageError(f"{owner}: {name}={value} is above {high:.12g}, the largest value allowed")
        return value

    def _typed(self, owner: str, name: str, raw: object) -> ParamValue:
        kind = type(self.default)
        wrong = UsageError(f"{owner}: {name}={raw!r} is not {_KIND_NAMES[kind]}, for example {name}={self.default}")
        if kind is bool:
            word = raw if isinstance(raw, bool) else _WORDS.get(str(raw).strip().lower())
            if word is None:
                raise wrong
            return word
        if isinstance(raw, bool):
            raise wrong
        if kind is str:
            if not isinstance(raw, str):
                raise wrong
            return raw.strip()
        try:
            number = float(raw)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            raise wrong from None
        if kind is float:
            return number
        if not number.is_integer():
            raise wrong
        return int(number)


_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_KIND_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}


def resolve_params(owner: str, declared: Mapping[str, Param], given: Mapping[str, object]) -> dict[str, ParamValue]:
    """`given` checked and completed with the defaults, in declaration order.

    Raises:
        UsageError: a parameter that `owner` does not have (names the nearest), or a value it does not take.
    """
    for name in given:
        if name not in declared:
            hint = nearest(name, declared)
            known = f"its parameters are {', '.join(declared)}" if declared else "it has none"
            raise UsageError(f"{owner} has no parameter {name!r}{hint} ({known})")
    return {
        name: param.parse(owner, name, given[name]) if name in given else param.default
        for name, param in declared.items()
    }


def shared_out(given: Given, declared: Mapping[str, Mapping[str, Param]], what: str) -> dict[str, dict[str, object]]:
    """Parameters by the metric, component or probe they belong to; each has to belong to at least one of them.

    Raises:
        UsageError: a parameter that none of them has.
    """
    found: dict[str, dict[str, object]] = {owner: {} for owner in declared}
    for key, value in given.items() if isinstance(given, Mapping) else given:
        owner, dot, name = key.strip().rpartition(".")
        if dot and owner not in declared:
            text = f"--{what}-param '{key}={value}'"
            raise UsageError(f"{text}: {what} {owner!r} is not asked for{nearest(owner, declared)}")
        owners = [owner] if dot else [one for one, params in declared.items() if name in params]
        if not owners:
            known = [f"{one}: {', '.join(params) or 'none'}" for one, params in declared.items()]
            names = [each for params in declared.values() for each in params]
            raise UsageError(f"no {what} here has a parameter {name!r}{nearest(name, names)} ({'; '.join(known)})")
        for one in owners:
            found[one][name] = value
    return found
