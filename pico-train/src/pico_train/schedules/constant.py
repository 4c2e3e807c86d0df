"""A linear warm-up, then the peak."""

from __future__ import annotations

from pico_train.schedules.base import Course, interpolate


def constant(step: int, course: Course) -> float:
    """Equals `transformers.get_constant_schedule_with_warmup`: the peak from step `warmup_steps` on."""
    if step < course.warmup_steps:
        return interpolate(0.0, course.peak, step / course.warmup_steps, "linear")
    return course.peak
