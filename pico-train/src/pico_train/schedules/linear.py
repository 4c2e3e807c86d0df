"""A linear warm-up, then a straight line down to zero."""

from __future__ import annotations

from pico_train.schedules.base import Course, interpolate


def linear(step: int, course: Course) -> float:
    """Equals `transformers.get_linear_schedule_with_warmup`: the peak at step `warmup_steps`, zero at `max_steps`."""
    if step < course.warmup_steps:
        return interpolate(0.0, course.peak, step / course.warmup_steps, "linear")
    return interpolate(course.peak, 0.0, course.after_warmup(step), "linear")
