"""What a run logged while it trained, and results of its evaluation, as lines over steps."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pico_analyze.stores.base import LogsValues

if TYPE_CHECKING:
    from pico_analyze.stores.base import Store

MOST_POINTS = 3000
"""Most points of a line: of each of so many stretches the lowest and the highest value are kept."""
_PANELS = {
    "loss": "loss",
    "train_loss": "loss",
    "val_loss": "loss",
    "lr": "learning rate",
    "grad_norm": "gradient norm",
}
"""Which panel a name is drawn in; other results of evaluation have one each."""
_NOT_DRAWN = re.compile(r"\.n_\w+$|_se$")
"""Counts and standard errors: of a result, not results themselves."""
_UNITS = {"loss": "nats per token"}
_NAMES = {"loss": "train", "train_loss": "train", "val_loss": "validation"}


@dataclass(frozen=True)
class Line:
    """One line of one panel."""

    panel: str
    unit: str
    name: str
    """What tells it from others of its panel."""
    steps: list[int]
    values: list[float]
    marks: bool
    """Whether each point is a measurement worth a mark, as results of evaluation are."""
    thinned: int = 0
    """How many points there were, if there are fewer now; 0 otherwise."""


def lines(store: Store) -> list[Line]:
    """Loss, learning rate, gradient norm and results of evaluation, as far as there are any."""
    logged = store.logged_values() if isinstance(store, LogsValues) else {}
    results: dict[str, dict[int, float]] = {}
    for step, values in sorted(store.evaluations().items()):
        for name, value in values.items():
            if math.isfinite(value):
                results.setdefault(name, {})[step] = value
    found = [*_of_panels(logged, results)]
    for name, points in results.items():
        if name not in _PANELS and not _NOT_DRAWN.search(name) and points != results.get("val_loss"):
            task, _, measure = name.partition(".")
            found.append(_line((measure and f"{task} {measure}") or name, "", "", points, marks=True))
    return found


def _of_panels(logged: Mapping[str, Mapping[int, float]], results: Mapping[str, Mapping[int, float]]) -> Iterator[Line]:
    """The log, and what checkpoints hold where it says nothing."""
    train = {**results.get("train_loss", {}), **logged.get("loss", {})}
    validation = {**logged.get("val_loss", {}), **results.get("val_loss", {})}
    for name, points, marks in (("loss", train, False), ("val_loss", validation, True)):
        if points:
            yield _line("loss", _UNITS["loss"], _NAMES[name], points, marks=marks)
    for name in ("lr", "grad_norm"):
        if points := {**results.get(name, {}), **logged.get(name, {})}:
            yield _line(_PANELS[name], "", "", points, marks=False)


def _line(panel: str, unit: str, name: str, points: Mapping[int, float], *, marks: bool) -> Line:
    steps = np.array(sorted(points), dtype=np.int64)
    values = np.array([points[int(step)] for step in steps], dtype=np.float64)
    kept = thin(values, MOST_POINTS)
    shortened = len(steps) if len(kept) < len(steps) else 0
    return Line(panel, unit, name, steps[kept].tolist(), values[kept].tolist(), marks, shortened)


def thin(values: np.ndarray, most: int) -> np.ndarray:
    """Places of at most `most` values that keep each peak and each dip: of each stretch the lowest and the highest."""
    if len(values) <= most:
        return np.arange(len(values))
    stretches = np.array_split(np.arange(len(values)), max(1, (most - 2) // 2))
    kept = {0, len(values) - 1}
    for at in stretches:
        kept |= {int(at[np.argmin(values[at])]), int(at[np.argmax(values[at])])}
    return np.array(sorted(kept))
