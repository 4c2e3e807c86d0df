"""Learning dynamics in a few numbers: when a metric settles, how fast it moves, whether it goes with evaluation.

Pure functions over one series (steps and values), and `summarise`, which applies them to every series of a table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pico_analyze.counting import counted
from pico_analyze.errors import DataError, UsageError, nearest

if TYPE_CHECKING:
    import pandas

    from pico_analyze.stores.base import Store

PREFIX = "eval/"
"""What the names of results begin with in tables: ``eval/<task>/<measure>``."""
TREND = 0.8
"""Rank correlation with the step from which on a series is said to move with it."""
SERIES = (
    "run",
    "split",
    "data",
    "component",
    "site",
    "layer",
    "head",
    "metric",
    "params",
    "target_run",
    "target_step",
)
"""Columns that tell one series of steps from another."""


def _ascending(steps: Sequence[int], values: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    if len(steps) != len(values):
        raise ValueError(f"{len(steps)} steps and {len(values)} values do not belong together")
    order = np.argsort(np.asarray(steps, dtype=np.int64), kind="stable")
    return np.asarray(steps, dtype=np.int64)[order], np.asarray(values, dtype=np.float64)[order]


def convergence_step(steps: Sequence[int], values: Sequence[float], tau: float = 0.9) -> int | None:
    """The first step from which the values stay at or above τ up to the last one; None if the last is below.

    Meant for a similarity to the end of training (CKA with target `last`): Diehl Martinez et al. 2024, Tending Towards
    Stability, section 4. A step without a value is not known to be above τ, so convergence comes after it.
    """
    ordered, series = _ascending(steps, values)
    below = np.flatnonzero(~(series >= tau))
    first = int(below[-1]) + 1 if len(below) else 0
    return int(ordered[first]) if first < len(ordered) else None


def rate_of_change(steps: Sequence[int], values: Sequence[float]) -> list[float]:
    """Change per doubling of the step, Δvalue/Δlog₂(1 + step), from each step to the next (one fewer than steps).

    The 1 lets step 0 take part. NaN where one of the two values is missing.
    """
    ordered, series = _ascending(steps, values)
    if len(np.unique(ordered)) < len(ordered):
        raise ValueError("a step occurs twice: a series has one value per step")
    result: list[float] = (np.diff(series) / np.diff(np.log2(1.0 + ordered))).tolist()
    return result


@dataclass(frozen=True)
class Correlation:
    """How a metric and an evaluation go together over the steps that have both."""

    n: int
    """Steps that have both."""
    r: float
    """Pearson correlation, in [−1, 1]."""
    r2: float
    """Share of the evaluation's variance that a straight line in the metric explains."""
    rho: float
    """Spearman correlation of ranks: any monotone relation."""
    slope: float
    """Change of the evaluation per unit of the metric, by least squares."""
    r_detrended: float = math.nan
    """Pearson correlation of their changes from each step to the next: what is left where both follow the step."""
    trending: bool = False
    """Whether both move with the step, so that any two such series go together."""
    reason: str | None = None
    """Why the numbers are NaN."""


def correlation_with_evaluation(values: Mapping[int, float], evaluation: Mapping[int, float]) -> Correlation:
    """Correlation of a metric with evaluation results, both by step, over the steps with a finite value of both.

    R² as in Diehl Martinez et al. 2024, Tending Towards Stability, section 5. Both usually trend with the step, so a
    high R² says that they move together, not that one causes the other (Yule 1926, Why do we sometimes get
    nonsense-correlations between time-series?); `r_detrended` is of their first differences, over at least 3 of them
    that vary, else NaN. Undefined for fewer than 3 steps, or when one of them does not vary.
    """
    from scipy.stats import rankdata

    shared = [
        s for s in sorted(values) if s in evaluation and math.isfinite(values[s]) and math.isfinite(evaluation[s])
    ]
    n = len(shared)

    def undefined(reason: str) -> Correlation:
        return Correlation(n, math.nan, math.nan, math.nan, math.nan, reason=reason)

    if n < 3:
        return undefined(
            f"{counted(n, 'step has', 'steps have')} both the metric and the evaluation: a correlation needs 3"
        )
    x = np.array([values[s] for s in shared], dtype=np.float64)
    y = np.array([evaluation[s] for s in shared], dtype=np.float64)
    if _constant(x):
        return undefined("the metric does not vary over these steps")
    if _constant(y):
        return undefined("the evaluation does not vary over these steps")
    r = _pearson(x, y)
    steps = np.arange(n, dtype=np.float64)
    ranks_x, ranks_y = rankdata(x), rankdata(y)
    trending = all(abs(_pearson(ranks, steps)) >= TREND for ranks in (ranks_x, ranks_y))
    slope = r * float(y.std() / x.std())
    return Correlation(n, r, r * r, _pearson(ranks_x, ranks_y), slope, _of_changes(x, y), trending)


def _of_changes(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson correlation of first differences; NaN where there are fewer than 3 or one does not vary."""
    scale_x, scale_y = np.abs(x).max(), np.abs(y).max()
    dx, dy = np.diff(x), np.diff(y)
    if len(dx) < 3 or np.ptp(dx) <= 1e-9 * scale_x or np.ptp(dy) <= 1e-9 * scale_y:
        return math.nan
    return _pearson(dx, dy)


def _constant(values: np.ndarray) -> bool:
    return bool(np.ptp(values) <= 1e-12 * np.abs(values).max())


def _pearson(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(), y - y.mean()
    return max(-1.0, min(1.0, float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)))))


def flat_name(name: str) -> str:
    """The flat name ``<task>.<measure>`` of ``eval/<task>/<measure>``; any other name as it is."""
    task, slash, measure = name.removeprefix(PREFIX).rpartition("/")
    return f"{task}.{measure}" if slash and name.startswith(PREFIX) else name


def evaluation_results(run: Store, name: str) -> dict[int, float]:
    """Evaluation results of a run, by step.

    Args:
        run: The run.
        name: Name of the result, such as ``val_loss`` or ``paloma.perplexity``, or ``eval/paloma/perplexity`` as it
            is called in tables and logs.

    Raises:
        DataError: there are none of this name; the message names those that there are.
    """
    name = flat_name(name)
    by_step = run.evaluations()
    found = {step: values[name] for step, values in by_step.items() if name in values}
    if not found:
        known = sorted({key for values in by_step.values() for key in values})
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise DataError(f"run {run.run!r} has no evaluation {name!r}{nearest(name, known)} ({has})")
    return found


def summarise(
    table: pandas.DataFrame, tau: float = 0.9, evaluation: Mapping[int, float] | None = None
) -> pandas.DataFrame:
    """One row per series of a tidy table: its convergence step, its fastest change, its correlation with evaluation.

    Args:
        table: Tidy rows with at least `step`, `value` and some of `SERIES`; each series is summarised over its steps.
        tau: Threshold of `convergence_step`; NaN there for series that do not reach it.
        evaluation: Results by step, such as perplexities; without it the columns r, r2, rho, slope, n_shared,
            r_detrended and trending (see `Correlation`) are left out.

    Returns:
        The columns of `SERIES` that the table has, then n_steps, first, last, convergence_step, fastest_rate (of
        largest magnitude, per doubling of the step), fastest_from and fastest_to (the steps it lies between), and the
        correlation.

    Raises:
        UsageError: `tau` is not finite, no `step` or `value` column, or a series with two values at one step (rows of
            different questions).
    """
    import pandas as pd

    if not np.isfinite(tau):
        raise UsageError(f"tau={tau} is no threshold: give a finite number")
    for column in ("step", "value"):
        if column not in table.columns:
            raise UsageError(f"a table without the column {column!r} has no series: give rows that pico-analyze wrote")
    # Whether the target moves along is a matter of each metric.
    by = [name for name in ("metric", "params", "component", "data") if name in table.columns]
    if table.empty:
        return pd.DataFrame()
    groups = [group for _, group in table.groupby(by, sort=False, dropna=False)] if by else [table]
    return pd.concat([_of_one_metric(group, tau, evaluation) for group in groups], ignore_index=True)


def _of_one_metric(table: pandas.DataFrame, tau: float, evaluation: Mapping[int, float] | None) -> pandas.DataFrame:
    import pandas as pd

    keys = [name for name in SERIES if name in table.columns]
    # Comparing with the previous step is one series although its target moves along.
    moving = "target_step" in keys and _target_moves(table, keys)
    if moving:
        keys.remove("target_step")
    rows = []
    groups = table.groupby(keys, dropna=False, sort=True) if keys else [((), table)]
    for key, group in groups:
        group = group.sort_values("step")
        steps, values = [int(s) for s in group["step"]], [float(v) for v in group["value"]]
        if len(set(steps)) < len(steps):
            raise UsageError(
                f"the series {dict(zip(keys, key, strict=True))} has two values at one step: select one question"
            )
        rows.append(dict(zip(keys, key, strict=True)) | _summary(steps, values, tau, evaluation))
    return pd.DataFrame(rows)


def _target_moves(table: pandas.DataFrame, keys: Sequence[str]) -> bool:
    """Whether target steps change along with the step (`prev`), so that each step has one of its own."""
    others = [key for key in keys if key != "target_step"]
    grouped = table.groupby(others, dropna=False) if others else [((), table)]
    return all(not group["step"].duplicated().any() for _, group in grouped) and any(
        group["target_step"].nunique() > 1 for _, group in grouped
    )


def _summary(
    steps: list[int], values: list[float], tau: float, evaluation: Mapping[int, float] | None
) -> dict[str, object]:
    rates = rate_of_change(steps, values)
    summary: dict[str, object] = {
        "n_steps": len(steps),
        "first": values[0],
        "last": values[-1],
        "convergence_step": convergence_step(steps, values, tau),
        "fastest_rate": math.nan,
        "fastest_from": None,
        "fastest_to": None,
    }
    known = [i for i, rate in enumerate(rates) if math.isfinite(rate)]
    if known:
        at = max(known, key=lambda i: abs(rates[i]))
        summary |= {"fastest_rate": rates[at], "fastest_from": steps[at], "fastest_to": steps[at + 1]}
    if evaluation is not None:
        found = correlation_with_evaluation(dict(zip(steps, values, strict=True)), evaluation)
        summary |= {"r": found.r, "r2": found.r2, "rho": found.rho, "slope": found.slope, "n_shared": found.n}
        summary |= {"r_detrended": found.r_detrended, "trending": found.trending}
    return summary
