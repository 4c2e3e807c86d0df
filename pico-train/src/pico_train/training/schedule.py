"""The learning rate as a pure function of the step.

Nothing here has state, so a resumed run needs no scheduler to restore. `one_cycle` equals
`torch.optim.lr_scheduler.OneCycleLR`; the others equal the schedulers of the same name in `transformers.optimization`,
step by step. `step` counts updates from zero: the rate at step N is the one that update N → N+1 uses.
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
    warmup_steps: int,
    max_steps: int,
    anneal: Anneal = "linear",
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    decay_steps: int = 0,
    min_ratio: float = 0.0,
) -> float:
    """Return the learning rate of update `step` → `step + 1`.

    Args:
        step: updates made before this one, 0 ≤ step; from `max_steps` on the rate of the last step stays.
        name: `one_cycle` (warm up to the peak, then anneal to the end, Smith & Topin 2017, arXiv:1708.07120), `linear`,
            `cosine`, `wsd` (warm-up, stable, decay; Hu et al. 2024, arXiv:2404.06395) or `constant` (after warm-up).
        peak: highest learning rate.
        warmup_steps: steps of warm-up. One-cycle reaches the peak at step `warmup_steps` − 1, as OneCycleLR with
            `pct_start = warmup_steps / max_steps`; the others at step `warmup_steps`.
        max_steps: length of the whole schedule.
        anneal: shape of one-cycle's two phases, and of `wsd`'s decay.
        div_factor: one-cycle starts at peak / div_factor.
        final_div_factor: one-cycle ends at peak / div_factor / final_div_factor.
        decay_steps: length of `wsd`'s decay, at the end.
        min_ratio: floor of `linear`, `cosine` and `wsd`, as a fraction of the peak.
    """
    if name == "one_cycle":
        return _one_cycle(step, peak, warmup_steps, max_steps, anneal, div_factor, final_div_factor)
    if step < warmup_steps:
        return peak * step / warmup_steps
    if name == "constant":
        return peak
    if name == "wsd":
        start = max_steps - decay_steps
        if step < start:
            return peak
        progress = min(1.0, (step - start) / max(1, decay_steps))
        shape = anneal
    else:
        progress = min(1.0, (step - warmup_steps) / max(1, max_steps - warmup_steps))
        shape = "cos" if name == "cosine" else "linear"
    return _interpolate(peak, peak * min_ratio, progress, shape)


def _one_cycle(
    step: int, peak: float, warmup_steps: int, max_steps: int, anneal: Anneal, div: float, final_div: float
) -> float:
    start, end = peak / div, peak / div / final_div
    top, last = warmup_steps - 1, max_steps - 1
    if step <= top:
        # A single step of warm-up has no length to interpolate over: it is the peak already.
        return _interpolate(start, peak, step / top, anneal) if top > 0 else peak
    return _interpolate(peak, end, min(1.0, (step - top) / max(1, last - top)), anneal)


def _interpolate(start: float, end: float, progress: float, shape: Anneal) -> float:
    if shape == "linear":
        return start + (end - start) * progress
    return end + (start - end) / 2.0 * (1.0 + math.cos(math.pi * progress))
