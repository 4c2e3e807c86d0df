"""When something changes, and what everything else does meanwhile: courses over steps, told against one of them.

A course is one metric at one place (site, layer, head) over the steps of a run. Its change is from the first value to
the one farthest from it; the change is halfway at the first step that is at least half as far, and its window is from
the last step before that which is at most a tenth as far, to the first step from there that is nine tenths as far. All
are steps that were measured: no curve is fitted, and a window is no narrower than the steps lie apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pico_analyze.errors import UsageError
from pico_analyze.table.columns import plain

if TYPE_CHECKING:
    import pandas

BEHAVIOUR = "behaviour"
PLACE = ("metric", "params", "component", "data", "split", "site", "layer", "head", "target_run", "target_layer")
"""Columns that identify a course within a run."""
_ENDS = (0.1, 0.9)


@dataclass(frozen=True)
class Change:
    """A change of a course."""

    begin: int
    """Last step before `half` that is a tenth of the way or less."""
    half: int
    """First step that is halfway."""
    end: int
    """First step from there that is nine tenths of the way."""
    before: int
    """Step measured before `half`: the crossing lies between them."""
    first: float
    """Value at the first step."""
    farthest: float
    """Value farthest from it."""

    @property
    def size(self) -> float:
        """How far it goes, with its sign."""
        return self.farthest - self.first


@dataclass(frozen=True)
class Course:
    """One metric at one place over the steps of a run; steps without a value are left out."""

    place: Mapping[str, Any]
    """The columns that identify it."""
    steps: np.ndarray
    """Ascending, int64."""
    values: np.ndarray
    """float64, finite."""

    def change(self) -> Change | None:
        """Its change; None for fewer than three steps, or where all values are equal."""
        return change(self.steps, self.values)

    def within(self, begin: int, end: int) -> tuple[float, float, float]:
        """Its values at both ends of a window, and the share of its path (Σ|Δ|) that lies between.

        An end at which it was not measured is moved outward to the next step that was.
        """
        low = max(0, int(np.searchsorted(self.steps, begin, "right")) - 1)
        high = min(len(self.steps) - 1, int(np.searchsorted(self.steps, end, "left")))
        path = np.abs(np.diff(self.values))
        whole = float(path.sum())
        share = float(path[low:high].sum()) / whole if whole > 0 else math.nan
        return float(self.values[low]), float(self.values[high]), share


@dataclass(frozen=True)
class Transition:
    """The change that others are told against, and the others."""

    metric: str
    course: Course
    """Of the place where the metric changes most."""
    change: Change
    companions: tuple[Course, ...]
    """Of the same metric, those that change at least half as much, in the same direction; without `course`."""
    others: tuple[Course, ...]
    """Of other metrics: of those that are told by head, the head that changes most."""


def change(steps: Sequence[int] | np.ndarray, values: Sequence[float] | np.ndarray) -> Change | None:
    """The change of a course (see the module).

    Args:
        steps: Ascending.
        values: One for each, finite.
    """
    if len(steps) < 3:
        return None
    away = np.abs(np.asarray(values, np.float64) - values[0])
    most = float(away.max())
    if most == 0:
        return None
    far = away / most
    half = int(np.argmax(far >= 0.5))
    begin = int(np.flatnonzero(far[:half] <= _ENDS[0])[-1])  # the first step is none away
    end = half + int(np.argmax(far[half:] >= _ENDS[1]))
    return Change(
        begin=int(steps[begin]),
        half=int(steps[half]),
        end=int(steps[end]),
        before=int(steps[half - 1]),
        first=float(values[0]),
        farthest=float(values[int(np.argmax(away))]),
    )


def courses(frame: pandas.DataFrame) -> Iterator[Course]:
    """The courses in a table of one run; comparisons of a step with several others are none."""
    for key, rows in frame.groupby(list(PLACE), dropna=False, sort=False):
        if rows["step"].duplicated().any():
            continue
        known = rows[np.isfinite(rows["value"].to_numpy(float))].sort_values("step")
        place = {name: plain(one) for name, one in zip(PLACE, key, strict=True)}
        yield Course(place, known["step"].to_numpy(np.int64), known["value"].to_numpy(float))


def transition(frame: pandas.DataFrame, metric: str, least: float) -> Transition | str:
    """The transition of a run, or a sentence that says why there is none.

    Args:
        frame: Rows of one run, of several steps.
        metric: Whose change is the transition: that of the place where it changes most.
        least: How far it has to go at least.

    Raises:
        UsageError: no row is of this metric.
    """
    found = list(courses(frame))
    own = [one for one in found if one.place["metric"] == metric]
    if not own:
        raise UsageError(f"there is no row of {metric}, which the transition is told by: name its probe in the study")
    sized = [(abs(known.size), -at, one, known) for at, one in enumerate(own) if (known := one.change()) is not None]
    if not sized:
        return f"{metric} has no course: three steps with a value are needed, and a value that changes"
    size, _, course, known = max(sized, key=lambda one: one[:2])
    if size < least:
        return (
            f"{metric} changes by {size:.3g} at most, from step {course.steps[0]} to {course.steps[-1]}: less than the "
            f"{least:g} that the study takes for a transition"
        )
    companions = [
        one for _, _, one, other in sized if one is not course and other.size * math.copysign(1, known.size) >= size / 2
    ]
    others = (one for one in found if one.place["metric"] != metric and len(one.steps) > 2)
    return Transition(metric, course, known, tuple(companions), tuple(_of_heads_the_most(others)))


def _of_heads_the_most(found: Iterator[Course]) -> list[Course]:
    """Of courses by head, the one that changes most for each metric and site; the others as they are."""
    kept: dict[tuple[Any, ...], Course] = {}
    for number, one in enumerate(found):
        known = one.change()
        if one.place["head"] is None:
            kept[number,] = one
        elif known is not None:
            key = tuple(one.place[name] for name in ("metric", "params", "component", "data", "split", "site"))
            there = kept[key].change() if key in kept else None
            if there is None or abs(known.size) > abs(there.size):
                kept[key] = one
    return list(kept.values())


def meeting(one: Change, other: Change) -> str:
    """How two changes lie to each other, in words: each is halfway in the window of the other, or not."""
    inside = other.begin <= one.half <= other.end, one.begin <= other.half <= one.end
    if all(inside):
        return "the two coincide"
    if other.begin <= one.end and one.begin <= other.end:
        return "the two overlap, and do not coincide"
    later = other.half - one.half
    return f"{abs(later)} steps {'later' if later > 0 else 'earlier'}: the two do not coincide"
