"""Steps whose weights do not lie on the way from the step before to the step after.

Training moves weights on: by a random walk that slows down, by a straight line, by jumps about a point where the
learning rate stays high. Call e the way over step i against the way past it, (d(i-1,i) + d(i,i+1)) / d(i-1,i+1). It is
1 on a straight line, at most √2 in a random walk, and 2 where every step lies about the same point, each as far from
the others. More needs a way there and back. The rules, each above what any of these gives:

- off the way: e > 3, and more than twice the median of the other steps' e;
- back where it was: two steps that are not neighbours are nearer to each other than a fifth of the way to what lies
  between them (about 1 or more in sound runs);
- standing still: two neighbours are nearer than a fiftieth of the way to the neighbours on both sides, which lie at
  most twice as far apart; never at the end of a run, where a learning rate that decays to zero does that;
- broken off: the cosine of two neighbours is less than a fifth of that of the pairs before and after, unless these lie
  less than half as far apart in steps; of the last two steps, less than a tenth of that before.

The first two say that some steps contradict each other: wrong are the fewest without which the fewest do.

Distances that the stored type rounds away are no distances. What these rules cannot see: weights of a step that is not
in the run and lies near the right one; wrong steps side by side that are more than half of the run; anything in a run
of two steps. Learning rates that go up and down between checkpoints (warm restarts) make e large at all of them, and so
raise the bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pico_analyze.auditing.distances import Distances

MOST_EXCESS = 3.0
TIMES_MEDIAN = 2.0
BACK = 0.2
STILL = 0.02
COPIED = 0.1
BROKEN = 0.2
BROKEN_AT_END = 0.1
_MOST_PLACES = 16
_LITTLE = 0.5
"""Cosine above which two steps have much in common."""


@dataclass(frozen=True)
class Odd:
    """A step that lies off the way."""

    step: int
    why: str
    """``off``, ``back``, ``still`` or ``broken``."""
    other: int | None
    """The step that it is nearest to, or that it should follow."""
    figures: dict[str, float]


def odd_steps(space: Distances, without: frozenset[int]) -> list[Odd]:
    """The steps that lie off the way, in the order in which they were found; steps in `without` are passed over."""
    alive = [n for n, step in enumerate(space.steps) if step not in without]
    found: list[Odd] = []
    while len(alive) > 2 and (places := _contradictions(space, alive)):
        removed = _least(space, alive, places)
        found += _told(space, alive, removed)
        alive = [n for n in alive if n not in removed]
    return found + _still(space, alive) + _broken(space, alive)


def excess(space: Distances, alive: list[int]) -> np.ndarray:
    """The way over each inner step against the way past it; 1 where nothing but rounding moves it."""
    values = np.ones(len(alive))
    for n in range(1, len(alive) - 1):
        before, own, after = alive[n - 1 : n + 2]
        there, on = space.d[before, own], space.d[own, after]
        if min(there, on) > space.floor:
            values[n] = (there + on) / max(space.d[before, after], space.floor / 10)
    return values


def _contradictions(space: Distances, alive: list[int]) -> list[tuple[int, int]]:
    """Pairs of places in `alive` that are too near to each other for what lies between them; of those that lie within
    one another the smallest."""
    if len(alive) < 3:
        return []
    values = excess(space, alive)
    found = []
    for n in range(1, len(alive) - 1):
        others = np.delete(values[1:-1], n - 1) if len(values) > 3 else np.array([1.5])
        if values[n] > max(MOST_EXCESS, TIMES_MEDIAN * float(np.median(others))):
            found.append((n - 1, n + 1))
    close = _shares(space, alive) < BACK
    found += [(int(n), int(np.argmax(close[n]))) for n in np.flatnonzero(close.any(axis=1))]
    smallest: list[tuple[int, int]] = []
    for first, second in sorted(set(found), key=lambda pair: (pair[1] - pair[0], pair)):
        if not any(first <= a and b <= second for a, b in smallest):
            smallest.append((first, second))
    return smallest


def _shares(space: Distances, alive: list[int]) -> np.ndarray:
    """Of each pair of steps with others between: how far apart they are, over the way to the furthest of those."""
    near = space.d[np.ix_(alive, alive)]
    upper = np.triu(near, 1)
    from_first, to_second = np.zeros_like(near), np.zeros_like(near)
    from_first[:, 1:] = np.maximum.accumulate(upper, axis=1)[:, :-1]
    to_second[:-1] = np.maximum.accumulate(upper[::-1], axis=0)[::-1][1:]
    far = np.triu(np.minimum(from_first, to_second), 2)
    return np.where(far > space.floor, near / np.maximum(far, 1e-300), np.inf)


def _least(space: Distances, alive: list[int], places: list[tuple[int, int]]) -> list[int]:
    """The fewest steps without which the least contradicts itself: one of a pair or of what lies between, or all of
    that; of several, those that make the way longest."""
    choices: set[tuple[int, ...]] = set()
    for first, second in places[:_MOST_PLACES]:
        between = tuple(range(first + 1, second))
        choices |= {(n,) for n in (first, second, *between[:_MOST_PLACES])}
        if 2 * len(between) < len(alive):
            choices.add(between)

    def cost(removed: tuple[int, ...]) -> tuple[bool, int, int, float]:
        rest = [own for n, own in enumerate(alive) if n not in removed]
        left = len(_contradictions(space, rest)) + len(_still(space, rest)) + _copied(space, alive, removed)
        longer = sum(detour(space, alive, alive[n]) for n in removed)
        return left >= len(places), left + len(removed), left, -longer

    return [alive[n] for n in min(sorted(choices), key=cost)]


def _copied(space: Distances, alive: list[int], removed: tuple[int, ...]) -> bool:
    """Whether what is left on both sides would stand still: then it is not what lies between that is wrong."""
    first, second = removed[0] - 1, removed[-1] + 1
    ends = [(n, n + 1) for n in (first - 1, second) if n >= 0 and n + 1 < len(alive)]
    if first < 0 or second >= len(alive) or not ends:
        return False
    usual = min(float(space.d[alive[a], alive[b]]) for a, b in ends)
    return bool(space.d[alive[first], alive[second]] < COPIED * usual)


def _told(space: Distances, alive: list[int], removed: list[int]) -> list[Odd]:
    """What to say of steps that are passed over from now on."""
    rest = [n for n in alive if n not in removed]
    before = max((n for n in rest if n < removed[0]), default=None)
    after = min((n for n in rest if n > removed[-1]), default=None)
    figures: dict[str, float] = {}
    if before is not None and after is not None:
        past = float(space.d[before, after])
        there, on = float(space.d[before, removed[0]]), float(space.d[removed[-1], after])
        figures = {"distance_before": there, "distance_after": on, "distance_past": past}
        figures["excess"] = (there + on) / max(past, space.floor / 10)
    found = []
    for own in removed:
        near = _nearest(space, rest, own, [n for n in (before, after) if n is not None])
        why = "off" if figures.get("excess", 0) > MOST_EXCESS or near is None else "back"
        found.append(Odd(space.steps[own], why, near, figures))
    return found


def _nearest(space: Distances, rest: list[int], own: int, beside: list[int]) -> int | None:
    """The step whose weights these nearly are: closer by far than to any neighbour."""
    best = min(rest, key=lambda k: float(space.d[own, k]))
    return space.steps[best] if space.d[own, best] < BACK * min(float(space.d[own, k]) for k in beside) else None


def detour(space: Distances, alive: list[int], own: int) -> float:
    """By how much a step makes the way through all of them longer."""
    n = alive.index(own)
    before, after = (alive[n - 1] if n else None), (alive[n + 1] if n + 1 < len(alive) else None)
    ways = [float(space.d[own, k]) for k in (before, after) if k is not None]
    past = float(space.d[before, after]) if before is not None and after is not None else 0.0
    return sum(ways) - past


def _still(space: Distances, alive: list[int]) -> list[Odd]:
    found = []
    steps = [space.steps[n] for n in alive]
    for n in range(1, len(alive) - 2):
        before, way, after = (float(space.d[alive[k], alive[k + 1]]) for k in (n - 1, n, n + 1))
        moves = _as_far(steps[n - 1 : n + 3]) and min(before, after) > 4 * space.floor
        if moves and way < STILL * min(before, after):
            found.append(Odd(steps[n], "still", steps[n + 1], {"distance": way, "before": before, "after": after}))
    return found


def _as_far(steps: list[int]) -> bool:
    """Whether the middle two of four steps are at least half as far apart as the others, in steps or in doublings."""
    for places in (np.array(steps, np.float64), np.log1p(np.array(steps, np.float64))):
        first, middle, last = np.diff(places)
        if 2 * middle >= max(first, last):
            return True
    return False


def _broken(space: Distances, alive: list[int]) -> list[Odd]:
    """Where the run does not go on. The first pair is `beginning.py`'s business."""
    found = []
    steps = [space.steps[n] for n in alive]
    cosines = [float(np.mean(space.cos[:, a, b])) for a, b in pairwise(alive)]
    gaps = [b - a for a, b in pairwise(steps)]
    for n in range(1, len(cosines)):
        last = n + 1 == len(cosines)
        beside = [n - 1] if last else [n - 1, n + 1]
        usual = min(cosines[k] for k in beside)
        share = BROKEN_AT_END if last else BROKEN
        comparable = gaps[n] <= 2 * max(gaps[k] for k in beside)
        if comparable and usual > _LITTLE and cosines[n] < share * usual:
            figures = {"cosine": cosines[n], "cosine_beside": usual}
            found.append(Odd(steps[n + 1], "broken", steps[n], figures))
    return found
