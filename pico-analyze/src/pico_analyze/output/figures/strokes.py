"""Marks on panels: lines with their bands, cells of heatmaps, legends and scales of colours."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pico_analyze.output.figures import style
from pico_analyze.output.figures.request import Request

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Palette = dict[str, tuple[Any, Any]]
"""Colour and line style by name."""
_BAND = {"interval": "95 % interval", "deviation": "mean ± one standard deviation"}
_NAMES = 8


def palette(points: pandas.DataFrame, hue: str | None) -> Palette:
    """Colour and line style by the name in `colour`: a scale for layers and heads, distinct ones for the others."""
    names = list(dict.fromkeys(points["colour"]))
    if hue in ("layer", "head"):
        numbered = [name for name in names if name not in ("model", "whole")]
        scale = dict(zip(numbered, style.ordered(len(numbered)), strict=True))
        return {name: (scale.get(name, "#444444"), "-") for name in names}
    if hue is None:
        return dict.fromkeys(names, ("#0072b2", "-"))
    return dict(zip(names, style.categories(len(names)), strict=True))


def draw_lines(ax: Axes, points: pandas.DataFrame, colours: Palette) -> None:
    """Each line with its band; what chance gives dotted; the target itself as a ring."""
    count = points["line"].nunique()
    thin = 1.0 if count <= 2 * style.MOST_NAMES else 0.6
    for (name, colour), line in points.groupby(["line", "colour"], sort=False):
        paint, dashes = colours[str(colour)]
        x, value = line["x"].to_numpy(float), line["value"].to_numpy(float)
        [drawn] = ax.plot(x, value, marker="o", color=paint, linestyle=dashes, label=name or None)
        drawn.set_linewidth(drawn.get_linewidth() * thin)
        drawn.set_markersize(drawn.get_markersize() * thin)
        if line["low"].notna().any():
            low, high = line["low"].to_numpy(float), line["high"].to_numpy(float)
            ax.fill_between(x, low, high, color=paint, alpha=0.18, linewidth=0)
        if line["chance"].notna().any():
            ax.plot(x, line["chance"].to_numpy(float), ":", color=paint, linewidth=0.8)
        ring = line[line["at_target"]]
        ax.plot(ring["x"].to_numpy(float), ring["value"].to_numpy(float), "o", mfc="none", mec=paint, ms=6)


def heatmap(ax: Axes, table: pandas.DataFrame, low: float, high: float) -> Any:
    """One map, its first row lowest; missing cells are grey."""
    import matplotlib as mpl

    colours = mpl.colormaps["viridis"].with_extremes(bad="#dddddd")
    values = table.to_numpy(float)
    image = ax.imshow(values, origin="lower", cmap=colours, vmin=low, vmax=high, aspect="auto", interpolation="nearest")
    ax.grid(False)
    ax.spines[["left", "bottom"]].set_visible(False)
    for names, place in ((table.columns, ax.set_xticks), (table.index, ax.set_yticks)):
        ticks = list(range(0, len(names), max(1, math.ceil(len(names) / _NAMES))))
        place(ticks, [style.short(float(names[i])) for i in ticks])
    return image


def legend(figure: Figure, points: pandas.DataFrame, colours: Palette, request: Request) -> None:
    """Names of up to twelve colours, a scale of more; what bands and dotted lines are."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    names = [name for name in colours if name]
    ordered = all(name.partition(" ")[0] in ("layer", "head") for name in names)
    handles: list[Any] = []
    if names and (len(names) <= style.MOST_NAMES or not ordered):
        handles = [Line2D([], [], color=colours[name][0], ls=colours[name][1], label=name) for name in names]
    for band, text in _BAND.items():
        if (points["band"] == band).any() and points["low"].notna().any():
            handles.append(Patch(facecolor="#bbbbbb", label=text))
    if points["chance"].notna().any():
        handles.append(Line2D([], [], color="#666666", lw=1, linestyle=":", label="by chance"))
    if handles:
        style.outside(figure, handles, request.width)
    if names and ordered and len(names) > style.MOST_NAMES:
        scale_bar(figure, names)


def scale_bar(figure: Figure, names: list[str]) -> None:
    """What colour each of many layers (or heads) has."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    numbers = [int(name.rpartition(" ")[2]) for name in names]
    scale = ScalarMappable(Normalize(min(numbers), max(numbers)), ListedColormap(style.ordered(len(numbers))))
    figure.colorbar(scale, ax=figure.axes, label=names[0].partition(" ")[0], fraction=0.03)
