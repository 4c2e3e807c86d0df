"""What is asked: which metrics, of which component and data, at which steps, compared with what.

A `Question` is complete and hashable and knows no store; `engine/plan.py` finds out what it means for a run, and
`builder.py` makes questions of what a person wrote. Everything that changes a value or its meaning is part of it, so
that two different questions can never be taken for one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pico_analyze.errors import UsageError, nearest
from pico_analyze.stores.base import Data

Null = Literal["permutation", "random_init"]
Pairs = Literal["target", "steps", "layers"]
PAIRS: tuple[Pairs, ...] = get_args(Pairs)
NULLS: tuple[Null, ...] = get_args(Null)
SPLITS = ("train", "val")

_NUMBER = "([0-9]{1,18})"
_RANGE = re.compile(rf"{_NUMBER}\s*(?:-|\.\.)\s*{_NUMBER}(?:\s*:\s*{_NUMBER})?")
_WORDS = ("first", "last")


@dataclass(frozen=True)
class Use:
    """A metric or component by name, with its parameters: complete ones once `engine/plan.py` has resolved them."""

    name: str
    params: tuple[tuple[str, bool | int | float | str], ...] = ()

    @classmethod
    def of(cls, name: str, params: Mapping[str, bool | int | float | str] | None = None) -> Use:
        """A use with parameters from a mapping, in a fixed order."""
        return cls(name, tuple(sorted((params or {}).items())))


@dataclass(frozen=True)
class Selection:
    """Some of an ascending list of numbers: all of them, or what a text such as ``0,4-16,last`` names."""

    text: str = "all"

    def pick(self, known: Sequence[int], *, what: str, of: str) -> list[int]:
        """The numbers chosen among `known`, ascending.

        A range takes those of `known` that lie in it (with ``:K``, those at multiples of K from its start); a single
        number has to be there.

        Args:
            known: The numbers that exist, ascending.
            what: What they are, for messages: step or layer.
            of: Whose they are, for messages.

        Raises:
            UsageError: not a selection, or a number that does not exist; the message names those that do.
        """
        chosen: set[int] = set()
        for item in filter(None, (part.strip() for part in self.text.split(","))):
            chosen |= self._item(item, known, what, of)
        if not chosen:
            raise UsageError(f"no {what} is selected by {self.text!r}: {existing(what, known, of)}")
        return sorted(chosen)

    def _item(self, item: str, known: Sequence[int], what: str, of: str) -> set[int]:
        if item == "all":
            return set(known)
        if item in _WORDS and known:
            return {known[0] if item == "first" else known[-1]}
        if match := _RANGE.fullmatch(item):
            low, high, stride = int(match[1]), int(match[2]), int(match[3] or 1)
            found = {number for number in known if low <= number <= high and (number - low) % max(stride, 1) == 0}
            if not found:
                raise UsageError(f"no {what} lies in {item}: {existing(what, known, of)}")
            return found
        if not re.fullmatch(_NUMBER, item):
            raise UsageError(f"{item!r} is not a {what}: give numbers, ranges such as 0-16, first, last or all")
        if int(item) not in known:
            raise UsageError(f"{what} {int(item)} does not exist: {existing(what, known, of)}")
        return {int(item)}


def existing(what: str, known: Sequence[int], of: str) -> str:
    """``run 'demo' has steps 0, 1, 2, 4 and 8``; contiguous ones as ``layers 0 to 11``."""
    if not known:
        return f"{of} has no {what}"
    if len(known) == 1:
        return f"{of} has only {what} {known[0]}"
    if list(known) == list(range(known[0], known[-1] + 1)):
        return f"{of} has {what}s {known[0]} to {known[-1]}"
    if len(known) > 24:
        return f"{of} has {len(known)} {what}s: {', '.join(map(str, known[:10]))} … {', '.join(map(str, known[-5:]))}"
    return f"{of} has {what}s {', '.join(map(str, known[:-1]))} and {known[-1]}"


ALL = Selection()
_TARGET_WORDS = ("last", "first", "prev", "same")


@dataclass(frozen=True)
class Target:
    """What each step is compared with."""

    step: int | Literal["last", "first", "prev", "same"] = "last"
    """A step, or one that depends on the run: its last or first, the one before, or the same number."""
    run: str | None = None
    """Another run, by name, path or address; None for the run itself."""

    @classmethod
    def parse(cls, text: str) -> Target:
        """``last``, ``first``, ``prev``, ``same``, ``STEP``, ``RUN`` (the same step of it) or ``RUN@STEP``."""
        word = _target_step(text)
        if word is not None:
            return cls(word)
        run, sep, tail = text.rpartition("@")
        step = _target_step(tail) if sep and run else None
        if step == "prev":
            raise UsageError(f"target {text!r}: prev is a step of the run itself: use first, last, same or a number")
        if step is not None:
            return cls(step, run)
        if re.fullmatch(r"[a-z]+", text) and nearest(text, _TARGET_WORDS):
            raise UsageError(
                f"target {text!r} is not one{nearest(text, _TARGET_WORDS)} (targets: {', '.join(_TARGET_WORDS)}, a "
                "step, RUN or RUN@STEP)"
            )
        return cls("same", text)

    def __str__(self) -> str:
        return str(self.step) if self.run is None else f"{self.run}@{self.step}"


def _target_step(text: str) -> int | Literal["last", "first", "prev", "same"] | None:
    if text in _TARGET_WORDS:
        return text  # type: ignore[return-value]
    match = re.fullmatch(r"(?:step-)?([0-9]{1,8})", text)
    return int(match[1]) if match else None


@dataclass(frozen=True)
class Question:
    """One question, asked of one run."""

    metrics: tuple[Use, ...]
    """What is computed."""
    component: Use = Use("simple")
    """What it is computed of."""
    data: Data = "activations"
    """weights, activations, gradients or noise."""
    split: str | None = "val"
    """train or val; None for weights, which belong to no split."""
    sites: tuple[str, ...] | None = None
    """Site kinds or names; None for each captured site."""
    layers: Selection | None = None
    """Which layers; None for all, and the sites that belong to no layer."""
    heads: bool = True
    """Whether circuits are also computed head by head."""
    steps: Selection = ALL
    """Which steps."""
    target: Target | None = None
    """What comparisons compare with; None for the default of `pairs`."""
    pairs: Pairs = "target"
    """target: each step with its target, site by site. steps: all pairs of steps. layers: all pairs of layers."""
    bootstrap: int = 0
    """Resamples of the samples for an interval; 0 for none."""
    null: Null | None = None
    """What stands for chance: permuted samples, or random numbers in place of the second matrix."""
    draws: int = 100
    """Draws from the null distribution."""
    seed: int = 0
    """Seed of bootstrap and null."""

    def __post_init__(self) -> None:
        if self.data != "weights" and self.split not in SPLITS:
            raise UsageError(f"split {self.split!r} is not one{nearest(str(self.split), SPLITS)} (splits: train, val)")
        if self.bootstrap and not 10 <= self.bootstrap <= 100_000:
            raise UsageError(f"bootstrap={self.bootstrap} is out of range: take 10 to 100000 resamples, or 0 for none")
        if not 1 <= self.draws <= 100_000:
            raise UsageError(f"draws={self.draws} is out of range: take 1 to 100000")
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"seed={self.seed} is out of range: take 0 to {2**63 - 1}")

    @property
    def effective_target(self) -> Target:
        """The target, or what stands for none: the last step; for pairs of layers, the checkpoint itself."""
        if self.target is not None:
            return self.target
        return Target("same" if self.pairs == "layers" else "last")

    def chosen(self) -> tuple[str, ...]:
        """What was chosen of a run, as words of a file's name: empty for all sites, layers and steps."""
        found = [] if self.sites is None else ["+".join(self.sites)]
        found += [] if self.layers is None else [f"layers={self.layers.text}"]
        found += [] if self.steps.text == ALL.text else [f"steps={self.steps.text}"]
        return tuple(found)

    def uncertainty(self) -> dict[str, int | str]:
        """What is recorded in a row's parameters about intervals and chance; empty where neither was asked for."""
        asked: dict[str, int | str] = {}
        if self.bootstrap:
            asked["bootstrap"] = self.bootstrap
        if self.null:
            asked |= {"null": self.null, "draws": self.draws}
        if asked:
            asked["seed"] = self.seed
        return asked


def choose(value: str, allowed: Iterable[str], what: str) -> str:
    """`value` if it is allowed.

    Raises:
        UsageError: it is not; names the nearest and all that are.
    """
    options = list(allowed)
    if value not in options:
        raise UsageError(f"{what} {value!r} does not exist{nearest(value, options)} (there are: {', '.join(options)})")
    return value
