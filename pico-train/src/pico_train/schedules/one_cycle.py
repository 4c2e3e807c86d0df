"""Up to the peak, then down to the end (Smith & Topin 2017, arXiv:1708.07120)."""

from __future__ import annotations

from pico_train.schedules.base import Course, interpolate

LEAST_WARMUP = 1
"""The peak is at the last step of the warm-up: without one, the first step would be on the way down already."""


def one_cycle(step: int, course: Course) -> float:
    """Equals `torch.optim.lr_scheduler.OneCycleLR` with `pct_start = warmup_steps / max_steps`.

    The peak is reached at step `warmup_steps` − 1, as there.
    """
    top, last = course.warmup_steps - 1, course.max_steps - 1
    if step < top:
        return interpolate(course.peak * course.start_factor, course.peak, step / top, course.anneal)
    end = course.peak * course.end_factor
    return interpolate(course.peak, end, (step - top) / max(1, last - top), course.anneal)
