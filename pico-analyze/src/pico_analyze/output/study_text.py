"""What a study says in a terminal: the findings, and one line for each metric and site; the rows are in the files."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pico_analyze.counting import counted
from pico_analyze.output.figures.selection import debiased
from pico_analyze.output.findings import Finding, without_itself
from pico_analyze.output.text import aligned, number, params_text, takes_sites
from pico_analyze.statistics.landmarks import halfway
from pico_analyze.statistics.transition import Course, courses

if TYPE_CHECKING:
    import pandas

_WIDTH = 100
_WIDEST = 120


def study_text(frame: pandas.DataFrame, found: Sequence[Finding], width: int | None = None) -> str:
    """Findings with what they do not say as notes below, and a table of all metrics.

    Args:
        frame: Tidy rows of the study.
        found: Its findings.
        width: Characters of a line of the terminal; None for a file or a program.
    """
    return "\n\n".join(part for part in (findings_text(found, width), summary_text(frame)) if part)


def findings_text(found: Sequence[Finding], width: int | None = None) -> str:
    """Findings one below the other; caveats that several share are told once."""
    columns = max(40, min(_WIDTH if width is None else width, _WIDEST))
    notes = list(dict.fromkeys(one.caveat for one in found))
    lines = []
    for one in found:
        text = f"{one.text} [{notes.index(one.caveat) + 1}]"
        lines.append(textwrap.fill(text, columns, initial_indent="- ", subsequent_indent="  "))
    for at, note in enumerate(notes, start=1):
        lead = f"[{at}] "
        lines.append(textwrap.fill(note, columns, initial_indent=lead, subsequent_indent=" " * len(lead)))
    return "\n".join(lines)


def summary_text(frame: pandas.DataFrame) -> str:
    """One line for each metric and site of a run: places, first and last value in the median, halfway step.

    Values are the medians over places (layers, or heads where there is no whole), without those of a step compared with
    itself, and `halfway` the step by which half of the places that change are halfway.
    """
    if frame.empty:
        return "no rows"
    header = ["run", "metric", "of", "data", "places", "steps", "first", "last", "least", "most", "halfway"]
    lines = []
    for run, rows in debiased(without_itself(frame)).groupby("run", sort=False):
        groups: dict[tuple[object, ...], list[Course]] = {}
        for one in courses(rows):
            if len(one.steps):
                key = tuple(one.place[name] for name in ("metric", "params", "component", "data", "split", "site"))
                groups.setdefault((*key, one.place["head"] is None), []).append(one)
        lines += [[str(run), *_line(of)] for of in groups.values()]
    if not lines:
        return "no metric has a value"
    if len({line[0] for line in lines}) == 1:
        header, lines = header[1:], [line[1:] for line in lines]
    names = len(header) - 7
    return "\n".join([aligned(header, lines, left=range(names)), f"  {_LEGEND}"])


_LEGEND = "first, last: medians over places; least, most: over places and steps; halfway: of half of the places"


def _line(of: Sequence[Course]) -> list[str]:
    first, data = of[0].place, of[0].place["data"]
    split = first["split"]
    values = np.concatenate([one.values for one in of])
    half = halfway(of)
    heads = first["head"] is not None
    layers = first["layer"] is not None
    return [
        f"{first['metric']}{params_text(first)}",
        str(first["site"] if takes_sites(str(first["component"])) else first["component"]),
        f"{split} {data}" if split else str(data),
        counted(len(of), "head") if heads else counted(len(of), "layer") if layers else "model",
        str(max(len(one.steps) for one in of)),
        number(float(np.median([one.values[0] for one in of]))),
        number(float(np.median([one.values[-1] for one in of]))),
        number(float(values.min())),
        number(float(values.max())),
        "-" if half is None else str(half),
    ]
