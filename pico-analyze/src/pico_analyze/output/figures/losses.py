"""Train and validation loss of runs: what was logged as a line, what checkpoints hold as marks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pico_analyze.errors import UsageError
from pico_analyze.output.figures import style
from pico_analyze.output.figures.request import Request

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

SHOWN = {"train": ("-", None), "val": ("--", "o")}
"""The two losses, with line style and mark."""


@dataclass(frozen=True)
class Losses:
    """Losses of one run in nats per token, by step, and the tokens seen there where they are known."""

    run: str
    train: Mapping[int, float] = field(default_factory=dict)
    val: Mapping[int, float] = field(default_factory=dict)
    tokens: Mapping[int, int] = field(default_factory=dict)


def losses(runs: Sequence[Losses], request: Request) -> tuple[Figure, pandas.DataFrame]:
    """One panel, a colour each run, train solid and validation dashed; values: run, split, x, value.

    Raises:
        UsageError: no run has a loss; the tokens are not known.
    """
    import pandas as pd
    from matplotlib.lines import Line2D

    found: list[tuple[str, str, float, float]] = []
    for one in runs:
        for split in SHOWN:
            for step, value in sorted(getattr(one, split).items()):
                if not math.isfinite(value):
                    continue
                if request.x == "tokens" and step not in one.tokens:
                    continue
                found.append((one.run, split, float(step if request.x == "step" else one.tokens[step]), float(value)))
    points = pd.DataFrame(found, columns=["run", "split", "x", "value"])
    names = [one.run for one in runs]
    if points.empty:
        raise UsageError(f"no loss is known of {', '.join(names)}: neither logged nor in a checkpoint")
    figure, [ax] = style.panels(1, request.width, columns=1, shape=0.7)
    paints = dict(zip(names, style.categories(len(names)), strict=True))
    for (run, kind), line in points.groupby(["run", "split"], sort=False):
        dashes, mark = SHOWN[str(kind)]
        ax.plot(line["x"], line["value"], color=paints[str(run)][0], linestyle=dashes, marker=mark)
    style.count_axis(ax, list(points["x"]), request.x if request.x == "step" else "tokens")
    ax.set_ylabel("loss (nats per token)")
    handles = [Line2D([], [], color=paints[name][0], label=name) for name in names]
    for split in dict.fromkeys(points["split"]):
        dashes, mark = SHOWN[split]
        text = {"train": "train", "val": "validation"}[split]
        handles.append(Line2D([], [], color="#555555", ls=dashes, marker=mark, label=text))
    style.outside(figure, handles, request.width)
    style.headline(figure, f"loss · {'run' if len(names) == 1 else 'runs'} {', '.join(names[:6])}", request.width)
    return figure, points
