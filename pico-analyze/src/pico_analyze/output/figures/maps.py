"""Heatmaps of comparisons: layers by layers, steps by steps (also in the order of a clustering)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pico_analyze.errors import UsageError
from pico_analyze.output.figures import style
from pico_analyze.output.figures.captions import title, value_name, worth_drawing
from pico_analyze.output.figures.request import Request
from pico_analyze.output.figures.scales import limits
from pico_analyze.output.figures.strokes import heatmap
from pico_analyze.output.text import wholes_or_heads
from pico_analyze.table.columns import plain

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

MOST_MAPS = 12


def maps(rows: pandas.DataFrame, request: Request) -> tuple[Figure, pandas.DataFrame]:
    """The figure of maps (`request.kind` layers or steps), and its values: panel, row, column, value.

    Of more than twelve maps twelve are drawn, evenly chosen, first and last among them, and the title says so.

    Raises:
        UsageError: no value to draw.
    """
    import pandas as pd

    rows = wholes_or_heads(rows)
    worth_drawing(rows, rows["value"])
    every = _layer_maps(rows) if request.kind == "layers" else _step_maps(rows)
    drawn = [every[i] for i in style.evenly(len(every), MOST_MAPS)]
    if request.order:
        drawn = [(name, in_order(table)) for name, table in drawn]
    figure, axes = style.panels(len(drawn), request.width, shape=0.92)
    low, high = limits(rows)
    what = "layer" if request.kind == "layers" else "step"
    image = None
    for ax, (name, table) in zip(axes, drawn, strict=True):
        image = heatmap(ax, table, low, high)
        ax.set_title(name)
        ax.set_xlabel(f"{what} compared with")
        ax.set_ylabel(what)
    if image is not None:
        figure.colorbar(image, ax=axes, label=value_name(rows), fraction=0.04)
    text = title(rows) + ("" if len(drawn) == len(every) else f" · {len(drawn)} of {len(every)} maps")
    style.headline(figure, text, request.width)
    parts = []
    for name, table in drawn:
        tidy = table.rename_axis("row").reset_index().melt(id_vars="row", var_name="column", value_name="value")
        tidy.insert(0, "panel", name)
        parts.append(tidy)
    return figure, pd.concat(parts, ignore_index=True)


def _layer_maps(rows: pandas.DataFrame) -> list[tuple[str, pandas.DataFrame]]:
    found = []
    several = rows["run"].nunique() > 1
    for place, part in rows.groupby(["run", "site", "step", "target_step", "head"], sort=False, dropna=False):
        run, site, step, target, head = (plain(value) for value in place)
        words = [*([str(run)] if several else []), str(site), *([f"head {head}"] if head is not None else [])]
        words.append(f"step {step}" + (f" against {target}" if target not in (None, step) else ""))
        found.append((", ".join(words), _table(part, "layer", "target_layer")))
    return found


def _step_maps(rows: pandas.DataFrame) -> list[tuple[str, pandas.DataFrame]]:
    found = []
    several = rows["run"].nunique() > 1
    for place, part in rows.groupby(["run", "site", "layer", "head"], sort=False, dropna=False):
        run, site, layer, head = (plain(value) for value in place)
        words = [*([str(run)] if several else []), str(site), *([f"layer {layer}"] if layer is not None else [])]
        words += [f"head {head}"] if head is not None else []
        found.append((", ".join(words), _table(part, "step", "target_step")))
    return found


def _table(rows: pandas.DataFrame, down: str, across: str) -> pandas.DataFrame:
    table = rows.pivot_table(index=down, columns=across, values="value", dropna=False)
    return table.set_axis(table.index.astype(int), axis=0).set_axis(table.columns.astype(int), axis=1)


def in_order(table: pandas.DataFrame) -> pandas.DataFrame:
    """A square map in the order of leaves of a hierarchical clustering (average linkage of the columns' distances,
    Bar-Joseph et al. 2001's order of leaves).

    Raises:
        UsageError: the map is not square, or has holes: it has no such order.
    """
    import numpy as np
    from scipy.cluster.hierarchy import leaves_list, linkage

    values = table.to_numpy(float)
    if list(table.index) != list(table.columns) or not np.isfinite(values).all():
        raise UsageError("only a map of the same steps on both sides, without a missing value, can be ordered")
    if len(values) < 3:
        return table
    order = leaves_list(linkage(values, method="average", optimal_ordering=True))
    ordered: pandas.DataFrame = table.iloc[order, order]
    return ordered
