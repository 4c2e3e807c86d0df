"""Steps whose weights do not lie on the way from the step before to the step after.

Training moves weights on: by a random walk that slows down, by a straight line, by jumps about a point where the
learning rate stays high. Call e the way over step i against the way past it, (d(i-1,i) + d(i,i+1)) / d(i-1,i+1). It is
1 on a straight line, at most √2 in a random walk, and 2 where every step lies about the same point, each as far from
the others. More needs a way there and back. The rules, each above what any of these gives:

- off the way: e > 3, and more than twice the median of the other steps' e; the worst first, then again without it;
- back where it was: two steps that are not neighbours are nearer to each other than a fifth of the way to what lies
  between them (about 1 or more in sound runs). Where they are much nearer than neighbours are, one is a copy of the
  other, and the one that makes the whole way longer is wrong; otherwise the few between them are;
- standing still: two neighbours are nearer than a fiftieth of the way to the neighbours on both sides, which lie no
  further away in steps; never at the end of a run, where a learning rate that decays to zero does that;
- broken off: the cosine of two neighbours is less than a fifth of that of the pairs before and after, unless these lie
  less than half as far apart in steps; of the last two steps, less than a tenth of that before.

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
BROKEN = 0.2
BROKEN_AT_END = 0.1
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
    while len(alive) > 2:
        odd = _off_the_way(space, alive) or _back(space, alive)
        if not odd:
            break
        found += odd.values()
        alive = [n for n in alive if n not in odd]
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


def _off_the_way(space: Distances, alive: list[int]) -> dict[int, Odd]:
    values = excess(space, alive)
    n = int(np.argmax(values))
    others = np.delete(values[1:-1], n - 1) if len(values) > 3 else np.array([1.5])
    if values[n] <= max(MOST_EXCESS, TIMES_MEDIAN * float(np.median(others))):
        return {}
    own, past = alive[n], float(space.d[alive[n - 1], alive[n + 1]])
    ends = [(k, k + 1) for k in (n - 2, n + 1) if k >= 0 and k + 1 < len(alive)]
    if ends and past < BACK * min(float(space.d[alive[a], alive[b]]) for a, b in ends):
        return {}  # its neighbours are the same: it is one of them that is wrong
    near = _nearest(space, alive, own)
    figures = {
        "excess": float(values[n]),
        "distance_before": float(space.d[alive[n - 1], own]),
        "distance_after": float(space.d[own, alive[n + 1]]),
        "distance_past": past,
    }
    return {own: Odd(space.steps[own], "off", near, figures)}


def _nearest(space: Distances, alive: list[int], own: int) -> int | None:
    """The step whose weights these nearly are: closer by far than to any neighbour."""
    n = alive.index(own)
    others = [k for k in alive if k != own]
    best = min(others, key=lambda k: float(space.d[own, k]))
    beside = [space.d[own, alive[k]] for k in (n - 1, n + 1) if 0 <= k < len(alive)]
    return space.steps[best] if space.d[own, best] < BACK * min(beside) else None


def _back(space: Distances, alive: list[int]) -> dict[int, Odd]:
    """The worst pair of steps that are nearer to each other than to what lies between them: one of the two is wrong,
    or, where they are as far apart as neighbours are, those between, if these are few."""
    near = space.d[np.ix_(alive, alive)]
    upper = np.triu(near, 1)
    from_first, to_second = np.zeros_like(near), np.zeros_like(near)  # the furthest of what lies between
    from_first[:, 1:] = np.maximum.accumulate(upper, axis=1)[:, :-1]
    to_second[:-1] = np.maximum.accumulate(upper[::-1], axis=0)[::-1][1:]
    far = np.triu(np.minimum(from_first, to_second), 2)
    share = np.where(far > space.floor, near / np.maximum(far, 1e-300), np.inf)
    first, second = divmod(int(np.argmin(share)), len(alive))
    worst, pair = float(share[first, second]), (first, second)
    if worst >= BACK:
        return {}
    ends = [(n, n + 1) for n in (first - 1, second) if n >= 0 and n + 1 < len(alive)]
    apart = ends and near[pair] >= BACK * min(float(near[a, b]) for a, b in ends)
    if apart and 2 * (second - first - 1) < len(alive):
        way = float(near[first, first + 1] + near[second - 1, second])
        figures = {"excess": way / max(float(near[pair]), space.floor / 10), "distance_past": float(near[pair])}
        return {alive[n]: Odd(space.steps[alive[n]], "off", None, figures) for n in range(first + 1, second)}
    wrong = max(pair, key=lambda n: detour(space, alive, alive[n]))
    right = pair[0] if wrong == pair[1] else pair[1]
    figures = {"distance": float(near[pair]), "share": worst}
    return {alive[wrong]: Odd(space.steps[alive[wrong]], "back", space.steps[alive[right]], figures)}


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
        gaps = [steps[k + 1] - steps[k] for k in (n - 1, n, n + 1)]
        moves = gaps[1] >= max(gaps[0], gaps[2]) and min(before, after) > 4 * space.floor
        if moves and way < STILL * min(before, after):
            found.append(Odd(steps[n], "still", steps[n + 1], {"distance": way, "before": before, "after": after}))
    return found


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
