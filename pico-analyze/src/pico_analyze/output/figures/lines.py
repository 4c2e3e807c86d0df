"""Values over steps or tokens: panels, a colour each layer (or head, run, site), intervals and spread as bands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pico_analyze.errors import UsageError
from pico_analyze.output.figures import style
from pico_analyze.output.figures.captions import title, value_name, worth_drawing
from pico_analyze.output.figures.request import Request
from pico_analyze.output.figures.scales import value_axis
from pico_analyze.output.figures.series import dimensions, series, shown
from pico_analyze.output.figures.strokes import draw_lines, legend, palette

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

_MOST_PANELS = 48


def lines(rows: pandas.DataFrame, request: Request) -> tuple[Figure, pandas.DataFrame]:
    """The figure, and its values: a row each point, in the columns of `series`.

    Args:
        rows: Of one question, as `selection.choose` gives them.
        request: What tells lines and panels apart, and the axis.

    Raises:
        UsageError: no value to draw (with the reasons in the table), more panels than can be seen, and what `series`
            raises.
    """
    points = series(rows, request)
    worth_drawing(rows, points["value"])
    names = list(dict.fromkeys(points["panel"]))
    if len(names) > _MOST_PANELS:
        raise UsageError(f"{len(names)} panels are more than can be seen: choose with --site, --layers or --heads")
    colours = palette(points, dimensions(shown(rows, request), request)[0])
    figure, axes = style.panels(len(names), request.width)
    for ax, name in zip(axes, names, strict=True):
        draw_lines(ax, points[points["panel"] == name], colours)
        ax.set_title(name)
        style.count_axis(ax, list(points["x"]), request.x if request.x == "step" else "tokens")
        value_axis(ax, rows, points.loc[points["panel"] == name, "value"])
    axes[0].set_ylabel(value_name(rows))
    legend(figure, points, colours, request)
    style.headline(figure, title(rows), request.width)
    return figure, points
