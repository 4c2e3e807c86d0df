"""Sizes, fonts and colours of figures: legible in print, told apart by those who are colour-blind."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pico_analyze.output.figures.request import Width

INCHES: dict[str, float] = {"column": 85 / 25.4, "page": 175 / 25.4}
"""Widths of figures in print."""
_CATEGORIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#a0522d")
"""Okabe and Ito's, without their yellow, which is not seen on white."""
_STYLES: tuple[Any, ...] = ("-", "--", ":", "-.")
MOST_NAMES = 12
"""As many lines get a name in the legend; of more the scale is shown."""

STYLE: dict[str, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.edgecolor": "#555555",
    "axes.titleweight": "bold",
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "pico-analyze",  # equal figures are equal files
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}
_SCREEN = {"font.size": 9.5, "axes.titlesize": 10.5, "lines.linewidth": 1.5, "lines.markersize": 3.0}
_PRINT = {
    "font.size": 7.0,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7.0,
    "legend.fontsize": 6.5,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "lines.linewidth": 1.0,
    "lines.markersize": 2.0,
}


def settings(width: Width) -> dict[str, Any]:
    """Settings of matplotlib for a figure of this width."""
    return STYLE | (_SCREEN if width == "screen" else _PRINT)


def panels(count: int, width: Width, columns: int | None = None, shape: float = 0.8) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels, and those.

    Args:
        count: How many.
        width: On a screen panels keep their size and the figure grows; in print the figure keeps its width.
        columns: Panels side by side; None for what fits.
        shape: Height of a panel by its width.
    """
    from pico_analyze.output.figures.drawn import Drawn

    most = {"screen": 3, "column": 2, "page": 4}[width]
    across = columns or (2 if count == 4 else min(count, most))
    down = math.ceil(count / across)
    each = 4.0 if width == "screen" else INCHES[width] / across
    total = each * across + 0.9 if width == "screen" else INCHES[width]
    tall = each * shape * down + (0.5 if width == "screen" else 0.35)
    figure = Drawn(figsize=(total, tall), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False)
    flat = list(axes.flat)
    for spare in flat[count:]:
        spare.set_visible(False)
    return figure, flat[:count]


def ordered(count: int) -> list[Any]:
    """Colours of what has an order, layers for one: from dark to light along viridis, without its palest part."""
    import matplotlib as mpl

    scale = mpl.colormaps["viridis"]
    return [scale(0.88 * i / max(count - 1, 1)) for i in range(count)]


def categories(count: int) -> list[tuple[Any, Any]]:
    """Colour and line style of what has no order, runs for one: from the ninth on the style changes."""
    return [(_CATEGORIES[i % len(_CATEGORIES)], _STYLES[i // len(_CATEGORIES) % len(_STYLES)]) for i in range(count)]


def headline(figure: Figure, text: str, width: Width) -> None:
    """A title over the whole figure, broken where it is too long for it."""
    import textwrap

    size = 11.0 if width == "screen" else 8.0
    letters = max(20, int(figure.get_figwidth() * 72 / (size * 0.66)))
    figure.suptitle(textwrap.fill(text, letters), fontsize=size, x=0.01, ha="left", fontweight="bold")


def outside(figure: Figure, handles: list[Any], width: Width) -> None:
    """A legend beside the panels, or below them in print."""
    if width == "screen":
        figure.legend(handles=handles, loc="outside right center")
    else:
        figure.legend(handles=handles, loc="outside lower center", ncols=3 if width == "column" else 6)


def short(value: float) -> str:
    """A count in few letters: 12, 4.1k, 3G."""
    for bound, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= bound:
            return f"{value / bound:.3g}{prefix}"
    return f"{value:g}"


def evenly(count: int, most: int) -> list[int]:
    """`most` of `count` places, the first and the last among them; all where there are no more."""
    return list(range(count)) if count <= most else [round(i * (count - 1) / (most - 1)) for i in range(most)]


def few_ticks(ax: Axes) -> None:
    """A logarithmic axis of any range: powers of ten, and 2 and 5 times those where there are few; no names between."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = ax.get_xlim()
    wide = math.log10(high / low) > 2
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0), numticks=6))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def count_axis(ax: Axes, values: Sequence[float], label: str) -> None:
    """Powers of ten on a symmetric logarithmic axis, 0 at its left; few counts, or such of one size, as they are."""
    from matplotlib.ticker import FuncFormatter, NullLocator, SymmetricalLogLocator

    known = sorted({float(value) for value in values if math.isfinite(value)})
    positive = [value for value in known if value > 0]
    if len(known) > 2 and positive[-1] > 10 * positive[0]:
        least = positive[0]
        ax.set_xscale("symlog", linthresh=least, linscale=0.5)
        ax.xaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=least))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xlim(-0.25 * least if known[0] == 0 else known[0] / 1.2, known[-1] * 1.25)
    elif len(known) <= 6:
        ax.set_xticks(known)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    ax.set_xlabel(label)
