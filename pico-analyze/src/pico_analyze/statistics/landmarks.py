"""What stands out in courses over steps: where they settle, change fastest, lie apart, or move with the loss.

Courses (`transition.courses`) are of one run, one metric and one place. Nothing is fitted, and nothing is known between
two steps that were measured: what is told of a change names both of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pico_analyze.statistics.dynamics import convergence_step, rate_of_change
from pico_analyze.statistics.transition import Change, Course, change

FEW_HEADS = 8
"""Fewer heads than this have no outlier: their median says too little of them."""
FAR = 5.0
"""Robust deviations from which on a head lies apart: of 1,000 normal values none is expected there."""
FEW_LAYERS = 5
"""Fewer layers than this have no order that could be told from chance (4! = 24 orders, two of them monotone)."""
_SCALE = 1.4826  # of the median absolute deviation: it is the standard deviation of normal values then
_TINY = 1e-9


@dataclass(frozen=True)
class Settled:
    """Where a course of similarity to a late step stays above a threshold."""

    course: Course
    step: int | None
    """First step from which it does; None where only the target itself is above."""
    before: int | None
    """Step measured before it; None where it is the first."""


def settled(course: Course, target: int, tau: float) -> Settled:
    """Where a course of similarity to the step `target` settles.

    Args:
        course: The similarity over steps.
        target: The step compared with; from it on nothing is looked at, for its own value says nothing.
        tau: Threshold.
    """
    earlier = course.steps < target
    steps = [int(step) for step in course.steps[earlier]]
    found = convergence_step(steps, course.values[earlier].tolist(), tau)
    at = steps.index(found) if found is not None else 0
    return Settled(course, found, steps[at - 1] if at else None)


@dataclass(frozen=True)
class Fastest:
    """The interval of two measured steps in which a course changes most per doubling of the step."""

    course: Course
    rate: float
    """Change per doubling (Δvalue/Δlog₂(1 + step)), with its sign."""
    begin: int
    end: int
    first: float
    last: float


def fastest(course: Course) -> Fastest | None:
    """Where a course changes fastest; None for fewer than two steps or a constant one."""
    rates = np.array(rate_of_change(course.steps.tolist(), course.values.tolist()))
    if not len(rates) or not np.abs(rates).max() > 0:
        return None
    at = int(np.argmax(np.abs(rates)))
    ends = (int(course.steps[at]), int(course.steps[at + 1]))
    return Fastest(course, float(rates[at]), *ends, float(course.values[at]), float(course.values[at + 1]))


@dataclass(frozen=True)
class Apart:
    """A head whose value lies far from those of the others, at the last step."""

    course: Course
    value: float
    median: float
    deviations: float
    """(value − median) / (1.4826 · median absolute deviation), with its sign."""
    heads: int
    """All heads that were compared, this one included."""


def apart(heads: Sequence[Course]) -> list[Apart]:
    """Heads that lie apart from the others at the last step that all were measured at, the farthest first.

    Args:
        heads: Courses of one metric at one site, one for each head of each layer.

    Returns:
        Those at least `FAR` robust deviations away; none for fewer than `FEW_HEADS`. Where more than half are equal
        the deviation is that of rounding: then nothing is told.
    """
    if len(heads) < FEW_HEADS:
        return []
    common = set.intersection(*(set(one.steps.tolist()) for one in heads))
    if not common:
        return []
    values = np.array([one.values[int(np.searchsorted(one.steps, max(common)))] for one in heads])
    median = float(np.median(values))
    spread = _SCALE * float(np.median(np.abs(values - median)))
    if spread <= _TINY * max(abs(median), float(np.abs(values).max())):
        return []
    found = [
        Apart(one, float(value), median, float(value - median) / spread, len(heads))
        for one, value in zip(heads, values, strict=True)
        if abs(value - median) >= FAR * spread
    ]
    return sorted(found, key=lambda one: -abs(one.deviations))


@dataclass(frozen=True)
class Order:
    """Whether deeper layers settle later."""

    tau: float
    """Kendall's τ-b of layer and settling step, in [−1, 1]: 1 is from the first layer to the last."""
    p: float
    """Probability of one at least as far from 0 for layers in any order (two-sided)."""
    layers: int


def order(steps_of: Mapping[int, int]) -> Order | None:
    """How settling goes through the layers; None for fewer than `FEW_LAYERS`, or where all settle at one step."""
    if len(steps_of) < FEW_LAYERS or len(set(steps_of.values())) < 2:
        return None
    from scipy.stats import kendalltau

    layers = sorted(steps_of)
    found = kendalltau(layers, [steps_of[layer] for layer in layers])
    return Order(float(found.statistic), float(found.pvalue), len(layers))


def loss_change(losses: Mapping[int, float]) -> Change | None:
    """The change of a loss over steps (`transition.change`), of the steps where it is known; None for fewer than
    three."""
    known = sorted(step for step, value in losses.items() if math.isfinite(value))
    return change(known, [losses[step] for step in known])


def halfway(found: Iterable[Course]) -> int | None:
    """The step by which half of the courses that change are halfway (the lower median); None where none changes."""
    steps = sorted(known.half for one in found if (known := one.change()) is not None)
    return steps[(len(steps) - 1) // 2] if steps else None
