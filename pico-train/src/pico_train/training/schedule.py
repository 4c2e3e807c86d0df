"""The learning rate as a pure function of the step.

Nothing here has state, so a resumed run needs no scheduler to restore. `one_cycle` equals
`torch.optim.lr_scheduler.OneCycleLR`; the others equal the schedulers of `transformers.optimization`, step by step.
`step` counts updates from zero: the rate at step N is the one that update N → N+1 uses.
"""

from __future__ import annotations

import math
from typing import Literal

ScheduleName = Literal["one_cycle", "linear", "cosine", "wsd", "constant"]
Anneal = Literal["cos", "linear"]


def learning_rate(
    step: int,
    *,
    name: ScheduleName,
    peak: float,
    max_steps: int,
    warmup_steps: int,
    anneal: Anneal = "cos",
    start_factor: float = 0.04,
    end_factor: float = 4e-6,
    decay_fraction: float = 0.2,
) -> float:
    """Return the learning rate of update `step` → `step + 1`.

    The keywords but `peak` and `max_steps` are the fields of `config.ScheduleConfig`.

    Args:
        step: updates made before this one, 0 or more; from `max_steps` on, the last rate stays.
        name: `one_cycle` (warm up to the peak, then anneal to the end; Smith & Topin 2017, arXiv:1708.07120), `linear`
            or `cosine` down to zero after a linear warm-up, `wsd` (warm-up, stable, decay; Hu et al. 2024,
            arXiv:2404.06395), or `constant` after the warm-up.
        peak: highest learning rate.
        max_steps: length of the whole schedule, 1 or more.
        warmup_steps: steps of warm-up. One-cycle reaches the peak at step `warmup_steps` − 1, as OneCycleLR does with
            `pct_start = warmup_steps / max_steps`; the others reach it at step `warmup_steps`.
        anneal: shape of both phases of `one_cycle`, and of the decay of `wsd`.
        start_factor: first rate of `one_cycle` over the peak, the inverse of OneCycleLR's `div_factor`.
        end_factor: last rate of `one_cycle`, and first and last rate of `wsd`, over the peak.
        decay_fraction: part of `max_steps` over which `wsd` decays, rounded to whole steps; at most what the warm-up
            leaves.
    """
    if name == "one_cycle":
        return _one_cycle(step, peak, max_steps, warmup_steps, anneal, start_factor, end_factor)
    floor = peak * end_factor if name == "wsd" else 0.0
    if step < warmup_steps:
        return _interpolate(floor, peak, step / warmup_steps, "linear")
    if name == "constant":
        return peak
    if name == "wsd":
        decay_steps = min(round(decay_fraction * max_steps), max_steps - warmup_steps)
        return _interpolate(peak, floor, (step - max_steps + decay_steps) / max(1, decay_steps), anneal)
    progress = (step - warmup_steps) / max(1, max_steps - warmup_steps)
    return _interpolate(peak, 0.0, progress, "cos" if name == "cosine" else "linear")


def _one_cycle(
    step: int, peak: float, max_steps: int, warmup_steps: int, anneal: Anneal, start_factor: float, end_factor: float
) -> float:
    top, last = warmup_steps - 1, max_steps - 1
    if step < top:
        return _interpolate(peak * start_factor, peak, step / top, anneal)
    return _interpolate(peak, peak * end_factor, (step - top) / max(1, last - top), anneal)


def _interpolate(start: float, end: float, progress: float, shape: Anneal) -> float:
    progress = min(1.0, max(0.0, progress))
    if shape == "linear":
        return start + (end - start) * progress
    return end + (start - end) * (0.5 * (1.0 + math.cos(math.pi * progress)))
