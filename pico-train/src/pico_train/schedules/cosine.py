"""A linear warm-up, then half a cosine down to zero (Loshchilov & Hutter 2017, arXiv:1608.03983, without restarts)."""

from __future__ import annotations

from pico_train.schedules.base import Course, interpolate


def cosine(step: int, course: Course) -> float:
    """Equals `transformers.get_cosine_schedule_with_warmup`: the peak at step `warmup_steps`, zero at `max_steps`."""
    if step < course.warmup_steps:
        return interpolate(0.0, course.peak, step / course.warmup_steps, "linear")
    return interpolate(course.peak, 0.0, course.after_warmup(step), "cos")
