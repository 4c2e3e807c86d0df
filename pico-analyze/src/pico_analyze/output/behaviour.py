"""Rows of probes as text and pictures: a table a metric, steps down, layers or heads across; a picture a probe.

The curve of the loss by position is one table, positions across, and one picture of its own, a line a step.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pico_analyze.output.plots import draw_panels
from pico_analyze.output.text import Format, aligned, frame_as, number, table_text
from pico_analyze.probes.spec import PROBES

if TYPE_CHECKING:
    import pandas

_CURVE = "loss_at_position"


def behaviour_text(frame: pandas.DataFrame, form: Format, width: int | None = None) -> str:
    """Rows of probes as text, all columns for programs; `width` as for `table_text`."""
    if form != "table":
        return frame_as(frame, form)
    curve = frame["metric"] == _CURVE
    blocks = []
    for name, spec in PROBES.items():
        order = {metric.name: at for at, metric in enumerate(spec.metrics)}
        rows = frame[(frame["site"] == name) & ~curve]
        if len(rows):
            blocks.append(
                table_text(rows.sort_values("metric", key=lambda column: column.map(order), kind="stable"), width)
            )
    if curve.any():
        blocks.append(_curve(frame[curve]))
    return "\n\n".join(blocks)


def _curve(rows: pandas.DataFrame) -> str:
    """Loss by position: steps down, positions across."""
    rows = rows.assign(position=[json.loads(text)["position"] for text in rows["params"]])
    table = rows.pivot_table(index="step", columns="position", values="value", dropna=False)
    lines = [
        [str(step), *(number(float(value)) for value in values)]
        for step, values in zip(table.index, table.to_numpy(), strict=True)
    ]
    title = f"{_CURVE} · probe induction · run {rows['run'].iloc[0]}   (mean loss after so many tokens)"
    return "\n".join([title, aligned(["step \\ position", *map(str, table.columns)], lines)])


def behaviour_pictures(frame: pandas.DataFrame, directory: Path) -> list[Path]:
    """One picture a probe, a panel for each of its metrics; return the files."""
    written = []
    for name, spec in PROBES.items():
        rows = frame[(frame["site"] == name) & (frame["metric"] != _CURVE)]
        panels: list[tuple[str, Any]] = []
        for metric in spec.metrics:
            part = rows[rows["metric"] == metric.name]
            for split in part["split"].fillna("").unique():
                one = part[part["split"].fillna("") == split]
                if one["value"].notna().any() and one["step"].nunique() > 1:
                    several = part["split"].nunique(dropna=False) > 1
                    panels.append((f"{metric.name} ({split or 'rows'})" if several else metric.name, one))
        if panels:
            path = directory / f"behaviour-{name}.png"
            draw_panels(panels, f"{name} · run {rows['run'].iloc[0]}", path)
            written.append(path)
    return written
