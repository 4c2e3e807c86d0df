"""Trainings to audit: real ones of a small network by AdamW, and models of other makers that move as they do.

`trained` takes a few thousand steps of a two-layer network on a teacher's answers, in float64, under any schedule of
the learning rate. `moving` makes weights of any size without gradients: a random walk whose speed follows the learning
rate, a pull in one direction, weight decay, and noise about it that a high learning rate keeps up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

Schedule = Callable[[float], float]
"""Share of the training done → share of the largest learning rate."""
Weights = dict[str, np.ndarray]

CONSTANT: Schedule = lambda _: 1.0  # noqa: E731
COSINE: Schedule = lambda t: 0.5 * (1 + math.cos(math.pi * t))  # noqa: E731
LINEAR_TO_ZERO: Schedule = lambda t: 1 - t  # noqa: E731
WARMUP_STABLE_DECAY: Schedule = lambda t: t / 0.1 if t < 0.1 else 1.0 if t < 0.8 else (1 - t) / 0.2  # noqa: E731
SCHEDULES = {"constant": CONSTANT, "cosine": COSINE, "linear": LINEAR_TO_ZERO, "wsd": WARMUP_STABLE_DECAY}

PYTHIA = [0, *(2**n for n in range(10)), *range(1000, 4000, 250)]
EVERY = list(range(0, 4001, 250))
LOGARITHMIC = [0, *(2**n for n in range(12))]
FEW = [0, 1000, 4000]
TWO = [0, 4000]
LATE = list(range(1000, 4001, 250))
STEPS = {"pythia": PYTHIA, "every": EVERY, "log": LOGARITHMIC, "few": FEW, "two": TWO, "late": LATE}


def trained(
    steps: Sequence[int],
    *,
    lr: float = 3e-3,
    schedule: Schedule = COSINE,
    weight_decay: float = 0.1,
    d: int = 24,
    width: int = 48,
    batch: int = 16,
    seed: int = 0,
    std: float = 0.02,
) -> dict[int, Weights]:
    """Weights by step of a network that learns a teacher's answers: out = relu(x U) V, by AdamW."""
    rng = np.random.default_rng(seed)
    weights = {"up": std * rng.standard_normal((d, width)), "down": std * rng.standard_normal((width, d))}
    teacher = rng.standard_normal((d, width)) / math.sqrt(d), rng.standard_normal((width, d)) / math.sqrt(width)
    first = {name: np.zeros_like(w) for name, w in weights.items()}
    second = {name: np.zeros_like(w) for name, w in weights.items()}
    found, last = {}, max(steps)
    for step in range(last + 1):
        if step in steps:
            found[step] = {name: w.astype(np.float32) for name, w in weights.items()}
        x = rng.standard_normal((batch, d))
        hidden = np.maximum(x @ weights["up"], 0)
        wrong = hidden @ weights["down"] - np.maximum(x @ teacher[0], 0) @ teacher[1]
        wrong += 0.3 * rng.standard_normal(wrong.shape)  # no training fits its noise
        gradients = {"down": hidden.T @ wrong / batch}
        gradients["up"] = x.T @ ((wrong @ weights["down"].T) * (hidden > 0)) / batch
        rate = lr * schedule(step / last)
        for name, gradient in gradients.items():
            first[name] += 0.1 * (gradient - first[name])
            second[name] += 0.05 * (gradient**2 - second[name])
            mean, square = first[name] / (1 - 0.9 ** (step + 1)), second[name] / (1 - 0.95 ** (step + 1))
            weights[name] = weights[name] * (1 - rate * weight_decay) - rate * mean / (np.sqrt(square) + 1e-8)
    return found


def moving(
    shapes: Mapping[str, tuple[int, ...]],
    steps: Sequence[int],
    *,
    seed: int = 0,
    schedule: Schedule = COSINE,
    walk: float = 0.004,
    pull: float = 0.01,
    noise: float = 0.0,
    decay: float = 0.1,
    std: float = 0.02,
) -> dict[int, Weights]:
    """Weights by step. Vectors begin as ones and move too.

    Args:
        shapes: Of each tensor.
        steps: Which are kept.
        walk: Size of the random walk over a doubling of the step.
        pull: Size of what all of the training moves in one direction.
        noise: Size of what a step lies off the way, at the largest learning rate.
        decay: Share of the initialisation that is forgotten.
        std: Standard deviation of the initialisation.
    """
    rng = np.random.default_rng(seed)
    draw = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    state = {name: np.ones_like(w) if w.ndim == 1 else np.float32(std) * w for name, w in draw.items()}
    start = {name: w.copy() for name, w in state.items()}
    target = {name: np.float32(pull) * rng.standard_normal(w.shape, np.float32) for name, w in state.items()}
    found, last, before = {}, max(*steps, 1), 0
    for step in steps:
        rate = schedule(min(step / last, 1))
        for name, w in state.items():
            if step > before:
                far = math.sqrt(math.log1p(step) - math.log1p(before)) * max(rate, 0.01)
                w += np.float32(walk * far) * rng.standard_normal(w.shape, np.float32)
                done = math.log1p(step) / math.log1p(last) - math.log1p(before) / math.log1p(last)
                w += np.float32(done) * (target[name] - np.float32(decay) * start[name])
        found[step] = {
            name: w + np.float32(noise * rate * (step > 0)) * rng.standard_normal(w.shape, np.float32)
            for name, w in state.items()
        }
        before = step
    return found
