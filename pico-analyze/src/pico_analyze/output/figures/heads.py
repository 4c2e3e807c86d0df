"""Heads: layer × head heatmaps over steps, and small multiples with a panel each head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pico_analyze.errors import UsageError
from pico_analyze.output.figures import style
from pico_analyze.output.figures.captions import title, value_name, worth_drawing
from pico_analyze.output.figures.request import Request
from pico_analyze.output.figures.scales import limits, value_axis
from pico_analyze.output.figures.strokes import heatmap

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

_MOST_STEPS = 12
_MOST_SMALL = 24
"""Layers down, and heads across, that small multiples have room for."""


def heads(rows: pandas.DataFrame, request: Request) -> tuple[Figure, pandas.DataFrame]:
    """Layer × head heatmaps, one a step (twelve at most, evenly chosen), and their values: step, layer, head, value.

    Raises:
        UsageError: no row of heads, several runs or sites, no value.
    """
    chosen = of_heads(rows)
    steps = sorted(int(step) for step in chosen["step"].unique())
    drawn = [steps[i] for i in style.evenly(len(steps), _MOST_STEPS)]
    figure, axes = style.panels(len(drawn), request.width, shape=0.85)
    low, high = limits(chosen)
    image = None
    for ax, step in zip(axes, drawn, strict=True):
        part = chosen[chosen["step"] == step]
        table = part.pivot_table(index="layer", columns="head", values="value", dropna=False)
        image = heatmap(ax, table, low, high)
        ax.set_title(f"step {step}")
        ax.set_xlabel("head")
        ax.set_ylabel("layer")
    if image is not None:
        figure.colorbar(image, ax=axes, label=value_name(chosen), fraction=0.04)
    text = title(chosen) + ("" if len(drawn) == len(steps) else f" · {len(drawn)} of {len(steps)} steps")
    style.headline(figure, text, request.width)
    values = chosen[chosen["step"].isin(drawn)].sort_values(["step", "layer", "head"])
    return figure, values[["step", "layer", "head", "value"]].reset_index(drop=True)


def small(rows: pandas.DataFrame, request: Request) -> tuple[Figure, pandas.DataFrame]:
    """Small multiples: layers down, heads across, all on one scale; values: layer, head, x, value, low, high.

    Raises:
        UsageError: no row of heads, several runs or sites, no value, more panels than can be seen.
    """
    from pico_analyze.output.figures.drawn import Drawn

    chosen = of_heads(rows)
    layers = sorted(int(layer) for layer in chosen["layer"].unique())
    across = sorted(int(head) for head in chosen["head"].unique())
    if len(layers) > _MOST_SMALL or len(across) > _MOST_SMALL:
        raise UsageError(
            f"{len(layers)} × {len(across)} panels are more than can be seen: choose with --layers and --heads, or "
            "draw --kind heads"
        )
    x = "step" if request.x == "step" else "tokens_seen"
    if chosen[x].isna().any():
        raise UsageError("the tokens seen are not known at each step: draw it over steps (--x step)")
    margin = 0.9
    wide = style.INCHES.get(request.width, len(across) + margin)
    tall = 0.8 * (wide - margin) / len(across) * len(layers) + 1.0
    figure = Drawn(figsize=(wide, tall))
    axes = figure.subplots(len(layers), len(across), sharex=True, sharey=True, squeeze=False)
    # Laid out by hand: matplotlib's own layouts of hundreds of panels take minutes.
    figure.subplots_adjust(0.8 / wide, 0.4 / tall, 1 - 0.1 / wide, 1 - 0.5 / tall, 0.08, 0.1)
    counts = [float(value) for value in chosen[x]]
    for i, layer in enumerate(layers):
        for j, head in enumerate(across):
            ax = axes[i][j]
            line = chosen[(chosen["layer"] == layer) & (chosen["head"] == head)].sort_values(x)
            where, value = line[x].to_numpy(float), line["value"].to_numpy(float)
            ax.plot(where, value, color="#0072b2", linewidth=1.0)
            if line["ci_low"].notna().any():
                band = line["ci_low"].to_numpy(float), line["ci_high"].to_numpy(float)
                ax.fill_between(where, *band, color="#0072b2", alpha=0.2, linewidth=0)
            ax.tick_params(labelsize=5.5, length=1.5)
            if i == 0:
                ax.set_title(f"head {head}" if len(across) <= 8 else str(head), fontsize=6.5, pad=2)
            if j == 0:
                ax.set_ylabel(f"layer {layer}" if len(layers) <= 8 else str(layer), fontsize=6.5)
    first = axes[0][0]
    style.count_axis(first, counts, "")
    value_axis(first, chosen, chosen["value"])
    low, high = first.get_xlim()
    inside = [tick for tick in first.get_xticks() if low < tick < high]
    middle = inside[1:-1]  # those at the edges would touch those of the next panel
    first.set_xticks((middle if len(middle) <= 2 else middle[::2]) or inside)
    figure.supxlabel("step" if x == "step" else "tokens", fontsize=7)
    figure.supylabel(f"layer · {value_name(chosen)}", fontsize=7, x=0.08 / wide, ha="left")
    style.headline(figure, title(chosen), request.width)
    values = chosen.sort_values(["layer", "head", x]).rename(columns={x: "x", "ci_low": "low", "ci_high": "high"})
    return figure, values[["layer", "head", "x", "value", "low", "high"]].reset_index(drop=True)


def of_heads(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Rows of heads, of one run and one site.

    Raises:
        UsageError: there are none, or they are of several.
    """
    chosen = rows[rows["head"].notna() & rows["layer"].notna()]
    if chosen.empty:
        raise UsageError(
            "no row is of a head: measure a circuit with heads, such as --component ov_circuit, or a probe"
        )
    for name, how in (("run", "give one run"), ("site", "choose one with --site")):
        if chosen[name].nunique() > 1:
            there = ", ".join(str(value) for value in chosen[name].unique()[:8])
            raise UsageError(f"heads of several {name}s do not fit into one figure ({there}): {how}")
    if chosen.duplicated(["layer", "head", "step"]).any():
        raise UsageError("each step is compared with several: choose one with --target")
    worth_drawing(chosen, chosen["value"])
    return chosen
