"""Learning rates as pure functions of the step, one file each.

Nothing here has state, so a resumed run needs no scheduler to restore. A schedule takes the number of updates made and
a `Course`; it imports nothing but `base`. A new one is a file here and a line in `_NAMES`, by which
`training.schedule.name` is checked.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from pico_train.schedules.base import Course, Schedule

_NAMES = (
    "one_cycle",
    "linear",
    "cosine",
    "wsd",
    "constant",
)
SCHEDULES: dict[str, Schedule] = {name: getattr(import_module(f"{__name__}.{name}"), name) for name in _NAMES}
"""Schedules by the name that a configuration gives: each is the function of that name in the module of that name."""


def learning_rate(step: int, *, name: str, peak: float, max_steps: int, **settings: Any) -> float:
    """Return the learning rate of update `step` → `step + 1`.

    Args:
        step: updates made before this one, 0 or more; from `max_steps` on, the last rate stays.
        name: key of `SCHEDULES`.
        peak: highest learning rate.
        max_steps: length of the whole schedule, 1 or more.
        settings: the other fields of `Course`, which are those of `config.ScheduleConfig`.
    """
    return SCHEDULES[name](step, Course(peak, max_steps, **settings))
