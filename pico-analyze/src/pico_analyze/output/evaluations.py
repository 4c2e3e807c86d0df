"""Results of evaluation as text: a line for each measure, a column for each step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pico_analyze.output.text import aligned, number
from pico_analyze.table.columns import plain

if TYPE_CHECKING:
    import pandas

_MOST_STEPS = 10


def as_text(frame: pandas.DataFrame) -> str:
    """The rows of `engine.evaluations`, for people; of many steps those that lie evenly apart, with first and last."""
    if frame.empty:
        return "no results of evaluation: measure some with `pico-train evaluate`"
    blocks = []
    for run, rows in frame.groupby("run", sort=False):
        steps = sorted(rows["step"].unique())
        last = len(steps) - 1
        chosen = [steps[place] for place in sorted({round(i * last / (_MOST_STEPS - 1)) for i in range(_MOST_STEPS)})]
        table = rows.pivot_table(index="metric", columns="step", values="value", sort=False)
        lines = [[str(name), *(_cell(plain(of.get(step))) for step in chosen)] for name, of in table.iterrows()]
        blocks.append(f"{run}\n{aligned(['metric', *(f'step {step}' for step in chosen)], lines, left=(0,))}")
    return "\n\n".join(blocks)


def _cell(value: float | None) -> str:
    return "-" if value is None else number(float(value))
