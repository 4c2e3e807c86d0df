"""What every schedule is given, and the curve that they share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Anneal = Literal["cos", "linear"]


@dataclass(frozen=True)
class Course:
    """The settings of a schedule, and the run that it is for."""

    peak: float
    """Highest learning rate."""
    max_steps: int
    """Length of the whole schedule, 1 or more."""
    warmup_steps: int
    """Steps of warm-up."""
    anneal: Anneal = "cos"
    """Shape of both phases of `one_cycle`, and of the decay of `wsd`."""
    start_factor: float = 0.04
    """First rate of `one_cycle` over the peak, the inverse of OneCycleLR's `div_factor`."""
    end_factor: float = 4e-6
    """Last rate of `one_cycle`, and first and last rate of `wsd`, over the peak."""
    decay_fraction: float = 0.2
    """Part of `max_steps` over which `wsd` decays, rounded to whole steps; at most what the warm-up leaves."""

    def after_warmup(self, step: int) -> float:
        """The part of the steps after the warm-up that is done before `step`: 0 at its end, 1 at the run's."""
        return (step - self.warmup_steps) / max(1, self.max_steps - self.warmup_steps)


Schedule = Callable[[int, Course], float]
"""(step, course) → learning rate of update step → step + 1, a pure function; from `max_steps` on the last one stays."""


def interpolate(start: float, end: float, progress: float, shape: Anneal) -> float:
    """Between two rates, at `progress` from 0 to 1 (beyond, the nearer end): a straight line or half a cosine."""
    progress = min(1.0, max(0.0, progress))
    if shape == "linear":
        return start + (end - start) * progress
    return end + (start - end) * (0.5 * (1.0 + math.cos(math.pi * progress)))
