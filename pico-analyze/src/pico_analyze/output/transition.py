"""What changes when, as text and as a figure beside a run's rows: courses told against one transition.

The figure has one panel above the other on a shared axis of steps, with the transition's window shaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pico_analyze.errors import StorageError
from pico_analyze.output.plots import draw_panels
from pico_analyze.output.text import aligned, number, params_text
from pico_analyze.statistics.transition import BEHAVIOUR, Change, Course, Transition, meeting
from pico_schema.files import replace_file

if TYPE_CHECKING:
    import pandas

_CURVE = "loss_at_position"


def transition_text(found: Transition | str, title: str) -> str:
    """The answer in words and a table, both made of the rows."""
    if isinstance(found, str):
        return f"{title}: {found}"
    own, companions = found.change, ""
    if found.companions:
        names = ", ".join(_where(one) for one in found.companions[:8])
        companions = f"; at least half as far: {names}{', …' if len(found.companions) > 8 else ''}"
    told = [one for one in found.others if one.place["metric"] != _CURVE]
    lines = [
        f"{title}: {_course(found.course, own)}{companions}",
        *(f"{title}: {_companion(one, own)}" for one in told if _of_the_whole(one)),
        *(f"{title}: {_summed_up(metric, of, own)}" for metric, of in _by_metric(told).items()),
    ]
    header = ["metric", "of", "first", f"at {own.begin}", f"at {own.end}", "last", "in between", "halfway"]
    return "\n".join([*lines, "", aligned(header, [_cells(one, own) for one in (found.course, *told)], left=(0, 1))])


def _of_the_whole(one: Course) -> bool:
    """Whether a course is what a probe says of the whole model."""
    return one.place["data"] == BEHAVIOUR and one.place["layer"] is None


def _where(one: Course) -> str:
    layer, head = one.place["layer"], one.place["head"]
    named = [f"{what} {value}" for what, value in (("layer", layer), ("head", head)) if value is not None]
    return ", ".join(named) or "the whole model"


def _of(one: Course) -> str:
    site = "" if one.place["data"] == BEHAVIOUR else f"{one.place['site']}, "
    return f"{site}{_where(one)}"


def _course(one: Course, known: Change) -> str:
    where = "" if _where(one) == "the whole model" else f" of {_where(one)}"
    return (
        f"{one.place['metric']}{where} goes from {number(known.first)} at step {one.steps[0]} to "
        f"{number(known.farthest)}, is halfway by step {known.half} (not yet at {known.before}), and goes from a tenth "
        f"to nine tenths of the way between steps {known.begin} and {known.end}"
    )


def _companion(one: Course, own: Change) -> str:
    known = one.change()
    if known is None:
        return f"{one.place['metric']} does not change"
    return f"{_course(one, known)}: {meeting(own, known)}"


def _by_metric(found: Sequence[Course]) -> dict[str, list[Course]]:
    """Courses of matrices, by what is measured."""
    groups: dict[str, list[Course]] = {}
    for one in found:
        if one.place["data"] != BEHAVIOUR:
            groups.setdefault(f"{one.place['metric']}{_params(one)}", []).append(one)
    return groups


def _params(one: Course) -> str:
    return params_text(one.place)


def _summed_up(metric: str, of: Sequence[Course], own: Change) -> str:
    """What one metric does in the window, at all places where it was measured."""
    within = [one.within(own.begin, own.end) for one in of]
    rising = sum(at_end > at_begin for at_begin, at_end, _ in within)
    shares = np.array([share for _, _, share in within])
    known = np.flatnonzero(np.isfinite(shares))
    course = f"rises at {rising} and falls at {len(of) - rising} of {len(of)} places"
    text = f"{metric}, steps {own.begin} to {own.end}: {course}"
    if not len(known):
        return f"{text}; it does not change over the run"
    most = int(known[np.argmax(shares[known])])
    before, after, share = within[most]
    return (
        f"{text}; {np.median(shares[known]):.0%} of its whole path there in the median, most of all at "
        f"{_of(of[most])} ({number(before)} to {number(after)}, {share:.0%})"
    )


def _cells(one: Course, own: Change) -> list[str]:
    begin, end, share = one.within(own.begin, own.end)
    known = one.change()
    return [
        f"{one.place['metric']}{_params(one) if one.place['data'] != BEHAVIOUR else ''}",
        _of(one),
        *(number(float(value)) for value in (one.values[0], begin, end, one.values[-1])),
        "-" if np.isnan(share) else f"{share:.0%}",
        "-" if known is None else str(known.half),
    ]


def write_text(text: str, path: Path) -> Path:
    """Keep the text beside the rows.

    Raises:
        StorageError: the file cannot be written.
    """
    try:
        replace_file(path, (text + "\n").encode(), durable=False)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror or error}): check the disk") from None
    return path


def transition_picture(frame: pandas.DataFrame, found: Transition, title: str, path: Path) -> Path:
    """Draw the transition's metric, what probes say of the whole model, and each other metric, one above the other.

    Args:
        frame: Rows of the run.
        found: Its transition.
        title: Of the whole.
        path: The file, which is replaced.
    """
    behaviour = frame["data"] == BEHAVIOUR
    panels: list[tuple[str, Any]] = [(f"{found.metric}, each head", frame[frame["metric"] == found.metric])]
    for one in found.others:
        if _of_the_whole(one) and one.place["metric"] != _CURVE:
            panels.append((str(one.place["metric"]), frame[behaviour & (frame["metric"] == one.place["metric"])]))
    for (metric, site), rows in frame[~behaviour].groupby(["metric", "site"], sort=False):
        if not rows["step"][rows["layer"] == rows["layer"].min()].duplicated().any():
            panels.append((f"{metric} · {site}", rows))
    draw_panels(panels, title, path, (found.change.begin, found.change.half, found.change.end))
    return path
