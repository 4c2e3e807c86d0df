"""What happened in a run, in sentences made from its rows, each with what it does not say and where it is seen.

The facts are those of `statistics/landmarks.py`; here is their choice, their order and their words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from pico_analyze.errors import PicoAnalyzeError, UsageError
from pico_analyze.metrics.spec import METRICS
from pico_analyze.output.figures.selection import debiased
from pico_analyze.output.figures.series import computed_order
from pico_analyze.output.text import number, params_text, takes_sites
from pico_analyze.statistics.landmarks import (
    Apart,
    Settled,
    apart,
    fastest,
    halfway,
    loss_change,
    order,
    settled,
)
from pico_analyze.statistics.transition import PLACE, Course, courses
from pico_analyze.table.columns import KEY

if TYPE_CHECKING:
    import pandas

    from pico_analyze.stores.base import Store

TAU = 0.9
"""Similarity from which on a site counts as settled."""
_SITES, _METRICS, _HEADS = 8, 8, 4
"""At most so many sentences of each kind."""
_QUESTION = ("metric", "params", "component", "data", "split")


@dataclass(frozen=True)
class Finding:
    """One sentence about a run."""

    text: str
    """What the rows say."""
    caveat: str
    """What they do not say."""
    selection: Mapping[str, str | int] = field(default_factory=dict)
    """Where it is seen: columns of the table (run, metric, data, component, site, layer, head, step, …) and values."""


class Findings(list[Finding]):
    """Findings in their order; a notebook shows each with what it does not say below it."""

    def _repr_html_(self) -> str:
        lines = (f"<li>{escape(one.text)}<br><small>{escape(one.caveat)}</small></li>" for one in self)
        return f"<ul>{''.join(lines)}</ul>"

    def __str__(self) -> str:
        return "\n".join(f"- {one.text}" for one in self)


def findings(
    frame: pandas.DataFrame, losses: Mapping[str, Mapping[int, float]] | None = None, tau: float = TAU
) -> Findings:
    """What stands out in a table, run by run: when sites settle, in which order, what changes fastest, heads that lie
    apart, what moves while the loss falls.

    Args:
        frame: Tidy rows of one run or several; where a metric warned of its own value, the debiased one is told.
        losses: Validation loss by step, of each run by name.
        tau: Similarity from which on a site counts as settled.

    Returns:
        The findings; one that says why there is none, for a run of which the rows tell nothing over steps.

    Raises:
        UsageError: `tau` is not finite, or a column is missing.
    """
    if not np.isfinite(tau):
        raise UsageError(f"tau={tau} is no threshold: give a finite number")
    if missing := [name for name in (*KEY, "value", "target_layer", "extra") if name not in frame.columns]:
        raise UsageError(f"a table without the column {missing[0]!r} tells nothing: give rows that pico-analyze wrote")
    found = Findings()
    if frame.empty:
        return Findings([Finding("There are no rows, so nothing can be said.", "Compute something first.")])
    several = frame["run"].nunique() > 1
    for run, rows in debiased(frame).groupby("run", sort=False):
        own = _of_run(rows, str(run), dict((losses or {}).get(str(run), {})), tau)
        for one in own:
            text = f"{run}: {one.text}" if several else one.text
            found.append(Finding(text, one.caveat, {"run": str(run), **one.selection}))
    return found


def validation_loss(run: Store) -> dict[int, float]:
    """The validation loss of a run by step, where it is known."""
    results = run.evaluations().items()
    return {step: values["val_loss"] for step, values in results if "val_loss" in values}


def without_itself(frame: pandas.DataFrame) -> pandas.DataFrame:
    """Rows but those of a step with itself: it is like itself whatever happened."""
    itself = (frame["target_run"] == frame["run"]) & (frame["step"] == frame["target_step"]).fillna(False)
    return frame[~itself]


def _with_the_latest_target(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Rows of which each step is compared with one: where a table has several (first and last, or all pairs), the
    latest."""
    latest: pandas.DataFrame = rows.sort_values("target_step", kind="stable", na_position="first")
    return latest.drop_duplicates([*PLACE, "step"], keep="last").sort_index()


def _of_run(rows: pandas.DataFrame, run: str, losses: Mapping[int, float], tau: float) -> list[Finding]:
    rows = _with_the_latest_target(rows)
    known = [one for one in courses(without_itself(rows)) if one.place["target_layer"] is None and len(one.steps)]
    steps = sorted({int(step) for one in known for step in one.steps})
    if len(steps) < 2:
        where = f"only step {steps[0]} has values" if steps else "no row has a value"
        return [Finding(f"Nothing over time can be said: {where}.", "Two steps are needed for a change.")]
    wholes = [one for one in known if one.place["head"] is None]
    found = [
        *_settling(rows, wholes, run, tau, len(steps)),
        *_changes(wholes, len(steps)),
        *_lone_heads(known),
        *_beside_the_loss(wholes, losses),
    ]
    return found or [Finding("Nothing stands out in these rows.", f"They are of {len(steps)} steps.")]


def _is_similarity(metric: str) -> bool:
    """Whether a metric is 1 for what is the same, and less for everything else."""
    with suppress(PicoAnalyzeError):  # a plug-in that is gone
        spec = METRICS.get(metric)
        return spec.similar == "high" and spec.bounds is not None and spec.bounds[1] == 1
    return False


def _settling(rows: pandas.DataFrame, wholes: Sequence[Course], run: str, tau: float, steps: int) -> list[Finding]:
    """When each site settles, and whether deeper layers do so later."""
    targets = {
        str(metric): int(of["target_step"].max())
        for metric, of in rows[rows["target_run"] == run].groupby("metric", sort=False)
        if _is_similarity(str(metric)) and of["target_step"].nunique() == 1
    }
    alike = [
        one
        for one in wholes
        if one.place["target_run"] == run and (one.steps < targets.get(str(one.place["metric"]), 0)).any()
    ]
    found = []
    groups = _in_order(_grouped(alike, "site"))
    for group in groups[:_SITES]:
        of = [settled(one, targets[str(one.place["metric"])], tau) for one in group]
        target = targets[str(of[0].course.place["metric"])]
        found.append(
            Finding(
                _settling_text(of, target, tau),
                f"Similarity to step {target} says how near the end is, not that learning has ended: a longer run may "
                f"settle later. {steps} steps were measured; between two of them nothing is known.",
                _selection(of[0].course, "site", step=_last(of)),
            )
        )
        told = order(
            {
                int(one.course.place["layer"]): one.step
                for one in of
                if one.course.place["layer"] is not None and one.step is not None
            }
        )
        if told is not None and told.p < 0.05:
            way = "from the first layer to the last" if told.tau > 0 else "from the last layer to the first"
            found.append(
                Finding(
                    f"{_what(of[0].course)} settles {way} (Kendall's τ {told.tau:.2f} over {told.layers} layers, "
                    f"p = {told.p:.2g}).",
                    "Of one run; layers that settle between the same two steps count as equal.",
                    _selection(of[0].course, "site"),
                )
            )
    return [*found, *_left_out(len(groups), _SITES, "compared sites")]


def _left_out(count: int, bound: int, what: str) -> list[Finding]:
    """A sentence about those that are beyond the bound, if there are any."""
    return [Finding(f"Of {count} {what} {bound} are told of: the table has all.", "The others may differ.")] * (
        count > bound
    )


def _in_order(groups: Sequence[list[Course]]) -> list[list[Course]]:
    """Groups of one site each in the order of computation."""
    ranks = {site: at for at, site in enumerate(computed_order(str(of[0].place["site"]) for of in groups))}
    return sorted(groups, key=lambda of: ranks[str(of[0].place["site"])])


def _last(of: Iterable[Settled]) -> int | None:
    """The latest of the settling steps."""
    return max((one.step for one in of if one.step is not None), default=None)


def _settling_text(of: Sequence[Settled], target: int, tau: float) -> str:
    done = sorted((one for one in of if one.step is not None), key=lambda one: one.step or 0)
    if not done:
        where = "" if len(of) == 1 else f" in any of its {len(of)} layers"
        return f"{_what(of[0].course)} does not stay at {tau:g} or above{where} before step {target} itself."
    what = f"{_what(of[0].course)} stays at {tau:g} or above"
    first, last = done[0], done[-1]
    if len(of) == 1:
        return f"{what} {_by(first)}."
    if first.step != last.step:
        text = f"{what} first in {_place(first.course)}, {_by(first)}, and last in {_place(last.course)}, {_by(last)}"
    else:
        where = f"all {len(of)} layers" if len(done) == len(of) else _places(done)
        text = f"{what} in {where} {_by(first)}"
    missing = len(of) - len(done)
    return f"{text}; in {missing} of {len(of)} layers not before step {target} itself." if missing else f"{text}."


def _places(of: Sequence[Settled]) -> str:
    """``layers 0, 2 and 3``."""
    names = [str(one.course.place["layer"]) for one in of]
    return f"layer {names[0]}" if len(names) == 1 else f"layers {', '.join(names[:-1])} and {names[-1]}"


def _by(one: Settled) -> str:
    return f"from step {one.step} on" if one.before is None else f"by step {one.step} (not yet at {one.before})"


def _grouped(known: Iterable[Course], *columns: str) -> list[list[Course]]:
    """Courses of one question each (and of one value of these columns), in the order of the table."""
    groups: dict[tuple[object, ...], list[Course]] = {}
    for one in known:
        groups.setdefault(tuple(one.place[name] for name in (*_QUESTION, *columns)), []).append(one)
    return list(groups.values())


def _changes(wholes: Sequence[Course], steps: int) -> list[Finding]:
    """The fastest change of each metric."""
    found = []
    groups = _grouped(wholes)
    for of in groups[:_METRICS]:
        changes = [change for one in of if (change := fastest(one)) is not None]
        if not changes:
            continue
        most = max(changes, key=lambda one: abs(one.rate))
        verb = "rises" if most.rate > 0 else "falls"
        where = f" in {_place(most.course)}" if most.course.place["layer"] is not None else ""
        found.append(
            Finding(
                f"{_what(most.course)} {verb} fastest{where}, from {number(most.first)} to {number(most.last)} between "
                f"steps {most.begin} and {most.end}.",
                f"The largest change per doubling of the step among {len(of)} places, in the metric's own unit; of "
                f"{steps} steps measured, and of one run.",
                _selection(most.course, "site", "layer", step=most.end),
            )
        )
    return [*found, *_left_out(len(groups), _METRICS, "questions")]


def _lone_heads(known: Sequence[Course]) -> list[Finding]:
    """Heads that lie far from the others at the last step."""
    of_heads = [one for one in known if one.place["head"] is not None]
    lone: list[Apart] = [one for of in _grouped(of_heads, "site") for one in apart(of)]
    lone.sort(key=lambda one: -abs(one.deviations))
    found = []
    for one in lone[:_HEADS]:
        place = _place(one.course)
        found.append(
            Finding(
                f"{place[0].upper()}{place[1:]} lies apart: {_what(one.course)} is {number(one.value)} at the last "
                f"step, where the median of {one.heads} heads is {number(one.median)} ({abs(one.deviations):.1f} "
                "robust deviations away).",
                f"Of one run: another seed gives other heads. {_counted(len(lone))} so far away; a value apart does "
                "not say what the head does.",
                _selection(one.course, "site", "layer", "head", step=int(one.course.steps[-1])),
            )
        )
    return found


def _counted(lone: int) -> str:
    return "One head lies" if lone == 1 else f"{lone} values of heads lie"


def _beside_the_loss(wholes: Sequence[Course], losses: Mapping[int, float]) -> list[Finding]:
    """Which metrics change before the loss does, with it, and after it."""
    change = loss_change(losses)
    if change is None:
        return []
    halves = [(half, of[0]) for of in _grouped(wholes) if (half := halfway(of)) is not None]
    if not halves:
        return []
    told = {
        "before it": [(half, one) for half, one in halves if half < change.half],
        "by the same step": [(half, one) for half, one in halves if half == change.half],
        "after it": [(half, one) for half, one in halves if half > change.half],
    }
    words = "; ".join(f"{when}, {_listed(of)}" for when, of in told.items() if of)
    nearest = min(halves, key=lambda one: abs(one[0] - change.half))[1]
    return [
        Finding(
            f"The validation loss goes from {number(change.first)} to {number(change.farthest)} and is halfway by step "
            f"{change.half} (not yet at {change.before}). Halfway in the median of their places: {words}.",
            "All change over the same steps: that two coincide is no sign that one causes the other, and a step "
            "is known no better than the steps lie apart.",
            _selection(nearest, step=change.half),
        )
    ]


def _listed(halves: Sequence[tuple[int, Course]]) -> str:
    texts = [
        f"{one.place['metric']}{params_text(one.place)} of {_measured(one)} ({half})"
        for half, one in sorted(halves, key=lambda pair: pair[0])
    ]
    return ", ".join(texts[:_METRICS]) + (f" and {len(texts) - _METRICS} more" if len(texts) > _METRICS else "")


def _measured(one: Course) -> str:
    """``activations``, ``weights of ov_circuit``."""
    component, data = str(one.place["component"]), str(one.place["data"])
    return data if takes_sites(component) else f"{data} of {component}"


def _what(one: Course) -> str:
    """``cka of attn.v (activations)``."""
    place = one.place
    return f"{place['metric']}{params_text(place)} of {place['site']} ({place['data']})"


def _place(one: Course) -> str:
    named = [f"{what} {one.place[what]}" for what in ("layer", "head") if one.place[what] is not None]
    return ", ".join(named) or "the model"


def _selection(one: Course, *columns: str, step: int | None = None) -> dict[str, Any]:
    """The columns that select a course's question, those named, and a step."""
    chosen = {name: one.place[name] for name in (*_QUESTION, *columns) if one.place[name] is not None}
    return {**chosen, **({} if step is None else {"step": step})}
