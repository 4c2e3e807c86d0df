"""The scale that a metric is drawn on: its bounds where values keep to them, else that of the values."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING

from pico_analyze.errors import PicoAnalyzeError
from pico_analyze.metrics.spec import METRICS, MetricSpec

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes


def metric_of(rows: pandas.DataFrame) -> MetricSpec | None:
    """The metric of these rows; None for several, for one of a probe, and for a plug-in's that is gone."""
    names = rows["metric"].unique()
    if len(names) != 1:
        return None
    with suppress(PicoAnalyzeError):
        return METRICS.get(str(names[0]))
    return None


def value_axis(ax: Axes, rows: pandas.DataFrame, values: pandas.Series[float]) -> None:
    """The scale that the metric is drawn on, as long as all values lie within it."""
    spec = metric_of(rows)
    finite = [value for value in values if math.isfinite(value)]
    if spec is None or not finite:
        return
    if spec.bounds is not None:
        low, high = spec.bounds
        slack = 1e-9 * (high - low)
        if low - slack <= min(finite) and max(finite) <= high + slack:
            ax.set_ylim(low - 0.02 * (high - low), high + 0.04 * (high - low))
            return
    if spec.axis == "log" and min(finite) > 0:
        ax.set_yscale("log")


def limits(rows: pandas.DataFrame) -> tuple[float, float]:
    """Ends of the colours: the metric's, where all values lie within, else those of the values."""
    finite = [value for value in rows["value"] if math.isfinite(value)]
    spec, low, high = metric_of(rows), min(finite), max(finite)
    if spec is not None and spec.bounds is not None:
        slack = 1e-9 * (spec.bounds[1] - spec.bounds[0])
        if spec.bounds[0] - slack <= low and high <= spec.bounds[1] + slack:
            return spec.bounds
    return (low, high) if high > low else (low - 0.5, high + 0.5)
