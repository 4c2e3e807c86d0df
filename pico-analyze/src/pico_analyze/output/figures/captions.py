"""What a figure says of itself: the question, the runs, what is compared with, and the name of its values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pico_analyze.errors import UsageError
from pico_analyze.output.text import question_name

if TYPE_CHECKING:
    import pandas


def worth_drawing(rows: pandas.DataFrame, values: pandas.Series[float]) -> None:
    """Refuse an empty frame.

    Raises:
        UsageError: no value is finite; the reasons are those of the table.
    """
    if not values.map(math.isfinite).any():
        reasons = "; ".join(sorted({str(reason) for reason in rows["reason"].dropna()})[:3])
        raise UsageError(
            f"no value of {question_name(rows)} is a number: there is nothing to draw ({reasons or 'no reason'})"
        )


def title(rows: pandas.DataFrame) -> str:
    """The question, the run and what is compared with, in one line."""
    runs = list(dict.fromkeys(rows["run"]))
    named = f"{', '.join(runs[:6])}{' …' if len(runs) > 6 else ''}"
    sites = rows["site"].unique()
    site = f" {sites[0]}" if len(sites) == 1 and sites[0] not in set(rows["component"]) else ""
    text = f"{question_name(rows)}{site} · {'run' if len(runs) == 1 else 'runs'} {named}"
    target = rows["target_run"].dropna().unique()
    if len(target):
        steps = rows["target_step"].dropna().unique()
        other = "" if len(target) > 1 or target[0] in runs else f" {target[0]}"
        text += f" against{other} {f'step {steps[0]}' if len(steps) == 1 else 'each last step' if not other else 'it'}"
    if instead := {str(name) for name in rows["instead"].dropna().unique()}:
        text += f" · {instead.pop()} values, as the biased ones are too high on so few samples"
    return text


def value_name(rows: pandas.DataFrame) -> str:
    """The metric, with the name of what stands in its place."""
    metrics = list(dict.fromkeys(rows["metric"]))
    instead = rows["instead"].dropna().unique()
    return f"{', '.join(metrics)}{f' ({instead[0]})' if len(instead) else ''}"
