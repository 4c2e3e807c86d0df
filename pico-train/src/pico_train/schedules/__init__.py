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


def derived_warmup(name: str, part: float, max_steps: int) -> int:
    """Return the steps of warm-up that a part of the run is, rounded.

    They are fewer than `max_steps`, but as many as the schedule needs to reach its peak (`LEAST_WARMUP` of its module,
    or 0): a run of one step is trained at the peak.

    Args:
        name: key of `SCHEDULES`.
        part: part of the run, 0 or more and less than 1.
        max_steps: length of the whole schedule, 1 or more.
    """
    least = int(getattr(import_module(f"{__name__}.{name}"), "LEAST_WARMUP", 0))
    return max(min(round(part * max_steps), max_steps - 1), least)


def learning_rate(
    step: int,
    *,
    name: str,
    peak: float,
    max_steps: int,
    warmup_steps: int | None = None,
    warmup: float | None = None,
    **settings: Any,
) -> float:
    """Return the learning rate of update `step` → `step + 1`.

    Args:
        step: updates made before this one, 0 or more; from `max_steps` on, the last rate stays.
        name: key of `SCHEDULES`.
        peak: highest learning rate.
        max_steps: length of the whole schedule, 1 or more.
        warmup_steps: steps of warm-up.
        warmup: part of the run that is warm-up, where `warmup_steps` is None; none by default.
        settings: the other fields of `Course`, which are those of `config.ScheduleConfig`.
    """
    if warmup_steps is None:
        warmup_steps = derived_warmup(name, warmup or 0.0, max_steps)
    return SCHEDULES[name](step, Course(peak, max_steps, warmup_steps, **settings))
