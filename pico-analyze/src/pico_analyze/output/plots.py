"""Pictures of a table: values against steps, and heatmaps of steps by steps or layers by layers.

One figure per metric, parameters, component, data, split and target; one panel per site (for heatmaps: per layer, or
per step). Layers are coloured by depth, from a sequential map without its palest part; the heads of a component without
a whole are lines (or heatmaps) of their own. Steps are on a symmetric log axis, so that step 0 is there. Nothing is
shown on a screen: matplotlib's Agg writes PNG files.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pico_analyze.errors import PicoAnalyzeError
from pico_analyze.metrics.spec import METRICS, MetricSpec
from pico_analyze.output.figures import style
from pico_analyze.output.figures.request import stem
from pico_analyze.output.text import params_text, takes_sites, title_of, wholes_or_heads, without_target_layer
from pico_analyze.table.columns import plain

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GROUP = ["run", "metric", "params", "component", "data", "split", "target_run", "between"]
_MAX_HEATMAPS = 12
_HEAD_WIDTH = 0.8
"""Of the line of one head, beside 1.5 of the line of a whole layer."""


def draw(frame: pandas.DataFrame, directory: Path, suffix: str = "png", *, chosen: tuple[str, ...] = ()) -> list[Path]:
    """Draw every figure that a table has; return the files, those of one name replaced.

    Args:
        frame: Tidy rows.
        directory: Where the files go.
        suffix: png, pdf or svg.
        chosen: What the question chose of the run, as `Question.chosen` says: the files' names have it.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    rows = frame.assign(
        params=_by_distinct(frame["params"], without_target_layer), between=frame["target_layer"].notna()
    )
    written = []
    for _, group in rows.groupby(_GROUP, dropna=False, sort=False):
        shown = wholes_or_heads(group)
        if shown["value"].notna().sum() == 0:
            continue
        with mpl.rc_context(_STYLE):
            figure = _figure(shown)
            path = directory / f"{file_stem(shown, chosen)}.{suffix}"
            _save(figure, path)
        import matplotlib.pyplot as plt

        plt.close(figure)
        written.append(path)
    return written


def draw_panels(
    panels: Sequence[tuple[str, pandas.DataFrame]],
    title: str,
    path: Path,
    window: tuple[int, int, int] | None = None,
) -> None:
    """One figure of lines over steps: a panel for each table, with its title; layers are coloured by depth.

    Args:
        panels: Title and tidy rows of one metric, of each panel.
        title: Of the whole.
        path: The file, which is replaced.
        window: Three steps, begin, middle and end of what is shaded; panels then stand one above the other, on one axis
            of steps.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    import pandas as pd

    every = pd.concat([rows for _, rows in panels])
    layers = sorted(int(layer) for layer in every["layer"].dropna().unique())
    colour = dict(zip(layers, style.ordered(len(layers)), strict=True))
    with mpl.rc_context(_STYLE):
        figure, axes = _panels(len(panels), 4.0, 3.2) if window is None else _stack(len(panels), 7.5, 1.4)
        for ax, (name, rows) in zip(axes, panels, strict=True):
            if window is not None:
                ax.axvspan(window[0], window[2], color="#f3d9a4", alpha=0.5, linewidth=0)
                ax.axvline(window[1], color="#b8860b", linewidth=0.8)
            for (layer, head), line in rows.groupby(["layer", "head"], sort=True, dropna=False):
                width = 1.5 if plain(head) is None else _HEAD_WIDTH
                _line(ax, line.sort_values("step"), colour.get(plain(layer), "#444444"), None, width)
            ax.set_title(name)
            if window is None:
                _step_axis(ax, rows)
        if window is not None:  # a linear axis: what is shaded is narrow, and late
            axes[-1].set_xlabel("step")
        if layers:
            _legend(figure, layers, colour, every)
        figure.suptitle(title, fontsize=11, x=0.01, ha="left", fontweight="bold")
        _save(figure, path)
    plt.close(figure)


def _by_distinct(column: pandas.Series[str], change: Callable[[str], str]) -> pandas.Series[str]:
    """`change` of each text, worked out once for equal ones."""
    return column.map({text: change(text) for text in column.unique()})


_DPI = 144


def _save(figure: Figure, path: Path) -> None:
    """Write a figure. A PNG is drawn once: `savefig` goes through everything a second time to lay it out."""
    if path.suffix != ".png":
        figure.savefig(path, dpi=_DPI)
        return
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.image import imsave

    figure.set_dpi(_DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    no_version: Any = {"Software": None}  # equal figures are equal files
    imsave(path, pixels, dpi=_DPI, metadata=no_version)


_STYLE: dict[Any, Any] = style.settings("screen")


def file_stem(rows: pandas.DataFrame, chosen: tuple[str, ...] = ()) -> str:
    """``cka-simple-val-activations-to-8-layers=0``: distinct for distinct questions, safe in a file system."""
    first = rows.iloc[0]
    sites = rows["site"].unique()
    single = sites[0] if len(sites) == 1 and takes_sites(str(first["component"])) else None
    parts = [first["metric"], first["component"], single, plain(first["split"]), first["data"]]
    if plain(first["target_run"]) is not None:
        targets = rows["target_step"].dropna().unique()
        other = "" if first["target_run"] == first["run"] else f"{first['target_run']}-"
        between = "layers-" if _kind(rows) == "layers" else "steps-" if _kind(rows) == "steps" else ""
        parts.append(f"{between}to-{other}{targets[0] if len(targets) == 1 else 'several'}")
    params = params_text(first)
    words = [word for word in chosen if word != single]
    return stem(*(str(part) for part in (*parts, params.strip(" []"), *words) if part))


def _kind(rows: pandas.DataFrame) -> str:
    """What is drawn: lines over steps, or a heatmap of layers or of steps."""
    if rows["target_layer"].notna().any():
        return "layers"
    per_step = rows.groupby(["site", "layer", "step"], dropna=False)["target_step"].nunique()
    return "steps" if per_step.max() > 1 else "lines"


def _figure(rows: pandas.DataFrame) -> Figure:
    kind = _kind(rows)
    figure = _lines(rows) if kind == "lines" else _heatmaps(rows, kind)
    headline = textwrap.fill(_headline(rows), int(10.5 * figure.get_figwidth()))
    figure.suptitle(headline, fontsize=11, x=0.01, ha="left", fontweight="bold")
    return figure


def _headline(rows: pandas.DataFrame) -> str:
    metric, *_, where = title_of(rows).split(" · ")
    first = rows.iloc[0]
    data = f"{first['split']} {first['data']}" if plain(first["split"]) else first["data"]
    return f"{metric} · {first['component']} · {data} · {where}"


def _panels(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    import matplotlib.pyplot as plt

    columns = 2 if count == 4 else min(count, 3)
    lines = math.ceil(count / columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(width * columns + 0.9, height * lines + 0.5), squeeze=False, layout="constrained"
    )
    flat = list(axes.flat)
    for spare in flat[count:]:
        spare.set_visible(False)
    return figure, flat[:count]


def _stack(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Panels one above the other, which share the axis of steps."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        count, 1, figsize=(width + 0.9, height * count + 0.5), squeeze=False, sharex=True, layout="constrained"
    )
    return figure, list(axes.flat)


def _lines(rows: pandas.DataFrame) -> Figure:
    sites = list(dict.fromkeys(rows["site"]))
    figure, axes = _panels(len(sites), 4.0, 3.2)
    layers = sorted(int(layer) for layer in rows["layer"].dropna().unique())
    colour = dict(zip(layers, style.ordered(len(layers)), strict=True))
    for ax, site in zip(axes, sites, strict=True):
        part = rows[rows["site"] == site]
        for (layer, head), line in part.groupby(["layer", "head"], sort=True, dropna=False):
            known = plain(layer) is not None
            name = ", ".join(f"{what} {n}" for what, n in (("layer", layer), ("head", head)) if plain(n) is not None)
            width = 1.5 if plain(head) is None else _HEAD_WIDTH
            _line(ax, line.sort_values("step"), colour[int(layer)] if known else "#444444", name or None, width)
        ax.set_title(site)
        _step_axis(ax, rows)
        _value_axis(ax, part)
    axes[0].set_ylabel(str(rows["metric"].iloc[0]))
    if layers:
        _legend(figure, layers, colour, rows)
    return figure


def _line(ax: Axes, line: pandas.DataFrame, colour: Any, label: str | None, width: float) -> None:
    """One layer's or head's course, its interval as a band, what chance gives dotted, the target as a ring."""
    steps, values = line["step"].to_numpy(float), line["value"].to_numpy(float)
    ax.plot(steps, values, "-o", color=colour, label=label, linewidth=width, markersize=2 * width)
    if line["ci_low"].notna().any():
        low, high = line["ci_low"].to_numpy(float), line["ci_high"].to_numpy(float)
        ax.fill_between(steps, low, high, color=colour, alpha=0.18, linewidth=0)
    if line["null_mean"].notna().any():
        ax.plot(steps, line["null_mean"].to_numpy(float), ":", color=colour, linewidth=1)
    same = (line["step"] == line["target_step"]).fillna(False) & (line["run"] == line["target_run"]).fillna(False)
    at_target = line[same.to_numpy(bool)]
    ax.plot(at_target["step"].to_numpy(float), at_target["value"].to_numpy(float), "o", mfc="none", mec=colour, ms=7)


def _step_axis(ax: Axes, rows: pandas.DataFrame) -> None:
    """Powers of ten on a symmetric log axis; step 0 stands left of 1."""
    from matplotlib.ticker import FuncFormatter, NullLocator, SymmetricalLogLocator

    steps = sorted(int(step) for step in rows["step"].unique())
    if len(steps) > 2 and steps[-1] > 10:
        ax.set_xscale("symlog", linthresh=1, linscale=0.5)
        ax.xaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=1))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xlim(-0.25 if steps[0] == 0 else steps[0] / 1.2, steps[-1] * 1.25)
    else:
        ax.set_xticks(steps)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: style.short(value)))
    ax.set_xlabel("step")


def _value_axis(ax: Axes, rows: pandas.DataFrame) -> None:
    spec = _metric(rows)
    values = rows["value"].to_numpy(float)
    finite = values[[math.isfinite(value) for value in values]]
    if spec is None or not len(finite):
        return
    if spec.bounds is not None and _within(finite.min(), finite.max(), spec.bounds):
        low, high = spec.bounds
        ax.set_ylim(low - 0.02 * (high - low), high + 0.04 * (high - low))
    elif spec.axis == "log" and finite.min() > 0:
        ax.set_yscale("log")


def _metric(rows: pandas.DataFrame) -> MetricSpec | None:
    """The metric of these rows, which have one; None if it was a plug-in's that is gone."""
    with suppress(PicoAnalyzeError):
        return METRICS.get(str(rows["metric"].iloc[0]))
    return None


def _within(lowest: float, highest: float, bounds: tuple[float, float]) -> bool:
    """Whether values lie in bounds, up to rounding."""
    slack = 1e-9 * (bounds[1] - bounds[0])
    return lowest >= bounds[0] - slack and highest <= bounds[1] + slack


def _legend(figure: Figure, layers: list[int], colour: dict[int, Any], rows: pandas.DataFrame) -> None:
    """Names for up to twelve layers, a colour bar beyond; what bands and dotted lines are."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = []
    if len(layers) <= 12:
        handles = [Line2D([], [], color=colour[layer], lw=2, label=f"layer {layer}") for layer in layers]
    if rows["head"].notna().any():
        handles.append(Line2D([], [], color="#666666", lw=_HEAD_WIDTH, label="each head"))
    if rows["ci_low"].notna().any():
        handles.append(Patch(facecolor="#bbbbbb", label="95 % interval"))
    if rows["null_mean"].notna().any():
        handles.append(Line2D([], [], color="#666666", lw=1, linestyle=":", label="by chance"))
    if handles:
        figure.legend(handles=handles, loc="outside right center")
    if len(layers) <= 12:
        return
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    scale = ScalarMappable(Normalize(layers[0], layers[-1]), ListedColormap(style.ordered(len(layers))))
    figure.colorbar(scale, ax=figure.axes, label="layer", fraction=0.03)


def _heatmaps(rows: pandas.DataFrame, kind: str) -> Figure:
    maps = list(_maps(rows, kind))
    figure, axes = _panels(min(len(maps), _MAX_HEATMAPS), 3.5, 3.2)
    finite = [value for value in rows["value"] if math.isfinite(value)]
    spec, (low, high) = _metric(rows), (min(finite), max(finite))
    if spec is not None and spec.bounds is not None and _within(low, high, spec.bounds):
        low, high = spec.bounds
    image = None
    for ax, (title, table) in zip(axes, _thinned(maps), strict=True):
        image = ax.imshow(table.to_numpy(float), origin="lower", cmap="viridis", vmin=low, vmax=high, aspect="auto")
        ax.grid(False)
        ax.spines[["left", "bottom"]].set_visible(False)
        ax.set_title(title)
        _cells(ax, "x", [style.short(float(name)) for name in table.columns])
        _cells(ax, "y", [style.short(float(name)) for name in table.index])
        other = rows["target_run"].iloc[0]
        of = "" if other == rows["run"].iloc[0] else f" of {other}"
        ax.set_xlabel(f"{'layer' if kind == 'layers' else 'step'}{of or ' compared with'}")
        ax.set_ylabel("layer" if kind == "layers" else "step")
    if image is not None:
        figure.colorbar(image, ax=figure.axes, label=str(rows["metric"].iloc[0]), fraction=0.04)
    return figure


def _maps(rows: pandas.DataFrame, kind: str) -> Iterator[tuple[str, pandas.DataFrame]]:
    """Title and table of each heatmap."""
    if kind == "layers":
        by, down, across = ["site", "step", "target_step", "head"], "layer", "target_layer"
    else:
        by, down, across = ["site", "layer", "head"], "step", "target_step"
    for place, part in rows.groupby(by, sort=True, dropna=False):
        named = {name: value for name, value in zip(by, place, strict=True) if plain(value) is not None}
        title = str(named.pop("site"))
        against = named.pop("target_step", None)
        title = ", ".join([title, *(f"{name} {value}" for name, value in named.items())])
        if against is not None and against != named["step"]:
            title += f" against {against}"
        yield title, part.pivot_table(index=down, columns=across, values="value", dropna=False)


def _thinned(maps: list[tuple[str, pandas.DataFrame]]) -> list[tuple[str, pandas.DataFrame]]:
    """At most twelve maps, evenly chosen, first and last among them."""
    if len(maps) <= _MAX_HEATMAPS:
        return maps
    return [maps[round(i * (len(maps) - 1) / (_MAX_HEATMAPS - 1))] for i in range(_MAX_HEATMAPS)]


def _cells(ax: Axes, axis: str, names: list[str]) -> None:
    """Names at up to eight cells of an axis."""
    every = max(1, math.ceil(len(names) / 8))
    ticks = list(range(0, len(names), every))
    (ax.set_xticks if axis == "x" else ax.set_yticks)(ticks, [names[i] for i in ticks])
