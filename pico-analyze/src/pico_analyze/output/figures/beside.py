"""A measure above results of evaluation (or of probes), on a shared axis: do they move together?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pico_analyze.errors import UsageError, nearest
from pico_analyze.output.figures import style
from pico_analyze.output.figures.captions import title, value_name, worth_drawing
from pico_analyze.output.figures.request import Request
from pico_analyze.output.figures.scales import value_axis
from pico_analyze.output.figures.series import dimensions, series, shown
from pico_analyze.output.figures.strokes import draw_lines, legend, palette

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

_MOST_PANELS = 8
_MOST_RESULTS = 6

Results = Mapping[str, Mapping[int, Mapping[str, float]]]
"""Results of evaluation by run, step and name."""


def beside(rows: pandas.DataFrame, request: Request, results: Results) -> tuple[Figure, pandas.DataFrame]:
    """The figure, measures in the upper panels and a panel each result below; and its values, `series`' columns.

    Args:
        rows: Of one question, as `selection.choose` gives them.
        request: `evaluation` names the results; none for the validation loss, or else all that there are.
        results: Of each run, by step.

    Raises:
        UsageError: no result, or none of a name; no value; more panels than fit.
    """
    import pandas as pd

    points = series(rows, request)
    worth_drawing(rows, points["value"])
    above = list(dict.fromkeys(points["panel"]))
    if len(above) > _MOST_PANELS:
        raise UsageError(f"{len(above)} panels above one another are more than can be seen: choose with --site")
    below = _chosen(rows, request, results)
    figure, axes = style.panels(len(above) + len(below), request.width, columns=1, shape=0.42)
    first = axes[0]
    colours = palette(points, dimensions(shown(rows, request), request)[0])
    label = request.x if request.x == "step" else "tokens"
    for ax, name in zip(axes, above, strict=False):
        draw_lines(ax, points[points["panel"] == name], colours)
        ax.set_title(name)
        ax.set_ylabel(value_name(rows))
        value_axis(ax, rows, points.loc[points["panel"] == name, "value"])
    tokens = rows.dropna(subset=["tokens_seen"]).set_index(["run", "step"])["tokens_seen"].to_dict()
    parts, runs = [points], list(dict.fromkeys(rows["run"]))
    paints = dict(zip(runs, style.categories(len(runs)), strict=True))
    for ax, name in zip(axes[len(above) :], below, strict=True):
        for run in runs:
            known = results.get(run, {})
            at = {
                (float(step) if request.x == "step" else float(tokens[run, step])): float(values[name])
                for step, values in sorted(known.items())
                if name in values and (request.x == "step" or (run, step) in tokens)
            }
            paint, dashes = paints[run]
            ax.plot(list(at), list(at.values()), marker="s", color=paint if len(runs) > 1 else "#333333", ls=dashes)
            part = pd.DataFrame({"x": list(at), "value": list(at.values())})
            parts.append(part.assign(panel=name, colour=run if len(runs) > 1 else "", line=run, at_target=False))
        ax.set_ylabel(name)
    xs = [float(x) for part in parts for x in part["x"]]
    for ax in axes:
        style.count_axis(ax, xs, label if ax is axes[-1] else "")
        if ax is not first:
            ax.sharex(first)
        ax.tick_params(labelbottom=ax is axes[-1])
    legend(figure, points, colours, request)
    style.headline(figure, title(rows), request.width)
    return figure, pd.concat(parts, ignore_index=True)[list(points.columns)]


def _chosen(rows: pandas.DataFrame, request: Request, results: Results) -> list[str]:
    """Names of the results below, each known of at least one of the runs."""
    runs = list(dict.fromkeys(rows["run"]))
    known = sorted(
        {
            name
            for run in runs
            for values in results.get(run, {}).values()
            for name, value in values.items()
            if math.isfinite(value)
        }
    )
    if not known:
        raise UsageError(f"no results of evaluation are known of {', '.join(runs[:6])}: draw --kind lines")
    for name in request.evaluation:
        if name not in known:
            raise UsageError(f"no result is called {name!r}{nearest(name, known)} (there are: {', '.join(known)})")
    if request.evaluation:
        return list(request.evaluation)
    if "val_loss" in known:
        return ["val_loss"]
    if len(known) > _MOST_RESULTS:
        raise UsageError(f"{len(known)} results are too many panels ({', '.join(known)}): choose with --evaluation")
    return known
