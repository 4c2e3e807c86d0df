"""Warm-up, stable, decay (Hu et al. 2024, arXiv:2404.06395)."""

from __future__ import annotations

from pico_train.schedules.base import Course, interpolate


def wsd(step: int, course: Course) -> float:
    """Equals `transformers.get_wsd_schedule`: the decay takes the last `decay_fraction` of the run."""
    floor = course.peak * course.end_factor
    if step < course.warmup_steps:
        return interpolate(floor, course.peak, step / course.warmup_steps, "linear")
    decay_steps = min(round(course.decay_fraction * course.max_steps), course.max_steps - course.warmup_steps)
    progress = (step - course.max_steps + decay_steps) / max(1, decay_steps)
    return interpolate(course.peak, floor, progress, course.anneal)
