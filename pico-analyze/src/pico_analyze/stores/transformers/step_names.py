"""Which step of training a name tells: of a directory, a branch, a tag or a repository.

    checkpoint-500                          transformers' Trainer
    step1000  step-00001000  step_1000      Pythia and many others
    step1000-tokens4B                       OLMo: the tokens too, rounded as the name has them
    stage1-step1000-tokens5B                OLMo 2: what stands around it is the name of the series
    ckpt_100  global_step1000  iter-001000  Amber; DeepSpeed and Megatron; litgpt

Names of one run differ in step and tokens alone. What no such word introduces tells no step, unless a pattern of the
user's own says where it stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from pico_analyze.counting import counted
from pico_analyze.errors import DataError, UsageError

MAX_STEP = 10**15
_BUILT_IN = re.compile(
    r"(?P<before>(?:.*[-_./])?)(?P<word>checkpoint|ckpt|global[-_]?step|step|iter(?:ation)?)[-_]?(?P<step>[0-9]{1,15})"
    r"(?:[-_]tokens[-_]?(?P<tokens>[0-9]{1,9}(?:\.[0-9]{1,3})?)(?P<unit>[kKmMbBtT]?))?(?P<after>(?:[-_./].*)?)"
)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
_LONGEST = 300
_MOST_SHOWN = 6


@dataclass(frozen=True)
class NamedStep:
    """What a name tells."""

    name: str
    """The name."""
    step: int
    """Updates done."""
    tokens: int | None
    """Tokens consumed, as far as the name tells: rounded to its last digit."""
    series: str
    """The rest of the name, with ``*`` for what differs between the steps of one series."""


class StepPattern:
    """How steps are told from names: by the known words, or by a regular expression of the user's own.

    Args:
        text: The expression. It is to fit the whole name; its group ``step``, or its first one, is the step, and its
            group ``tokens`` the tokens.

    Raises:
        UsageError: it is no regular expression, or has no group.
    """

    def __init__(self, text: str | None = None) -> None:
        self.text = text
        self._regex = _BUILT_IN
        if text is not None:
            try:
                self._regex = re.compile(text)
            except re.error as error:
                raise UsageError(f"--step-pattern {text!r} is no regular expression: {error}") from None
            if not self._regex.groups:
                raise UsageError(
                    f"--step-pattern {text!r} has no group that says which part of a name is the step: write "
                    r"parentheses around it, as in 'step([0-9]+)'"
                )

    def parse(self, name: str) -> NamedStep | None:
        """What a name tells; None if it tells no step."""
        found = self._regex.fullmatch(name) if len(name) <= _LONGEST else None
        if found is None:
            return None
        named = found.groupdict()
        digits = found["step"] if "step" in named else found[1]
        if digits is None or not digits.isascii() or not digits.isdecimal() or int(digits) > MAX_STEP:
            return None
        if self.text is not None:
            return NamedStep(name, int(digits), _tokens(named.get("tokens"), ""), self.text)
        tokens = _tokens(named["tokens"], named["unit"] or "")
        series = f"{named['before']}{named['word']}*{named['after']}"
        return NamedStep(name, int(digits), tokens, series)

    def one_series(self, names: Iterable[str], *, where: str) -> list[NamedStep]:
        """The names that tell a step, by ascending step.

        Raises:
            DataError: they belong to several series, or two of them are of one step.
        """
        found = [named for name in names if (named := self.parse(name)) is not None]
        series: dict[str, list[NamedStep]] = {}
        for named in found:
            series.setdefault(named.series, []).append(named)
        if len(series) > 1:
            by_size = sorted(series.items(), key=lambda item: (-len(item[1]), item[0]))
            shown = ", ".join(f"{name[:80]} ({counted(len(of), 'step')})" for name, of in by_size[:_MOST_SHOWN])
            more = f" and {len(series) - _MOST_SHOWN} more" if len(series) > _MOST_SHOWN else ""
            raise DataError(
                f"{where}: checkpoints of {len(series)} series are in one place, {shown}{more}: choose one, as by "
                f"--step-pattern '{_pattern_of(by_size[0][0])}'"
            )
        ordered = sorted(found, key=lambda named: (named.step, named.name))
        for first, second in pairwise(ordered):
            if first.step == second.step:
                raise DataError(
                    f"{where}: step {first.step} is there twice, as {first.name} and {second.name}: take one of them "
                    "away, or choose by --step-pattern"
                )
        return ordered


def _tokens(digits: str | None, unit: str) -> int | None:
    if not digits:
        return None
    try:
        return round(float(digits) * _UNITS[unit.lower()])
    except (ValueError, OverflowError):
        return None


def _pattern_of(series: str) -> str:
    """A regular expression that fits the names of a series."""
    before, _, after = series.rpartition("*")
    return f"{_plain(before)}[-_]?([0-9]+)(?:[-_]tokens[^-]*)?{_plain(after)}"


def _plain(text: str) -> str:
    return re.escape(text).replace(r"\-", "-").replace(r"\_", "_")
