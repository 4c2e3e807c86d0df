"""The card of a repository whose runs are one suite: what differs, the table, the curves of all in one figure.

Pure functions of the documents that are published, as all of the card.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

from pico_schema import RevisionIndex, RunManifest
from pico_schema.manifest import Coordinate
from pico_train.counting import counted
from pico_train.publish.card_sections import number, plain, plot_all, table

SIGNS = "●○▲△■□◆◇"
"""Of the curves, in the order of the table."""
_SEEDS = ("seed", "data_seed", "weights_seed", "data.seed", "training.init_seed", "init_seed")

Member = tuple[RunManifest, RevisionIndex]


def suite_of(runs: Sequence[RunManifest]) -> str | None:
    """The suite that all of several runs are of; None where they are not."""
    names = {run.suite.name if run.suite is not None else None for run in runs}
    return names.pop() if len(runs) > 1 and len(names) == 1 else None


def axes(runs: Sequence[RunManifest]) -> list[str]:
    """The axes of the suite, in its order."""
    return list(dict.fromkeys(axis for run in runs if run.suite is not None for axis in run.suite.coordinates))


def in_order(members: Sequence[Member]) -> list[Member]:
    """Members by their coordinates: smaller models first, numbers by size."""
    names = axes([run for run, _ in members])

    def key(member: Member) -> tuple[object, ...]:
        run, _ = member
        places = [_sortable(_coordinate(run, name)) for name in names]
        return (run.model.n_params if "size" in names else 0, *places, run.name)

    return sorted(members, key=key)


def _sortable(value: Coordinate) -> tuple[bool, float, str]:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return not is_number, float(value) if is_number else 0.0, "" if is_number else shown(value)  # type: ignore[arg-type]


def _coordinate(run: RunManifest, axis: str) -> Coordinate:
    return run.suite.coordinates.get(axis) if run.suite is not None else None


def shown(value: Coordinate) -> str:
    """A coordinate as text."""
    return str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)


def coordinates(run: RunManifest, names: Sequence[str]) -> list[str]:
    """The cells of a run under the axes."""
    return [flat(shown(_coordinate(run, name))) for name in names]


def differs(runs: Sequence[RunManifest], suite: str) -> str:
    """What the runs differ in, in one sentence."""
    parts = []
    for axis in axes(runs):
        values = sorted({_sortable(_coordinate(run, axis)): _coordinate(run, axis) for run in runs}.items())
        parts.append(f"{plain(flat(axis))} ({', '.join(plain(flat(shown(value))) for _, value in values)})")
    return f"The suite `{suite}`: {counted(len(runs), 'run')} that differ in {' and '.join(parts)}."


def seeds(members: Sequence[Member]) -> str:
    """Mean and spread of the last losses over the runs that differ in their seeds alone; empty without such."""
    names = axes([run for run, _ in members])
    kept = [name for name in names if name not in _SEEDS]
    groups: dict[tuple[str, ...], list[RevisionIndex]] = {}
    for run, index in members:
        groups.setdefault(tuple(coordinates(run, kept)), []).append(index)
    if len(kept) == len(names) or all(len(group) < 2 for group in groups.values()):
        return ""
    rows = []
    for place, group in groups.items():
        cells = [_spread([index.revisions[-1].metrics.get(name) for index in group]) for name in _LOSSES]
        rows.append((*place, len(group), *cells))
    title = "Over seeds, at the last step: mean ± standard deviation (nats per token).\n\n"
    return title + table((*map(flat, kept), "runs", "train loss", "validation loss"), rows)


_LOSSES = ("train_loss", "val_loss")


def _spread(values: Sequence[float | None]) -> str:
    there = [value for value in values if value is not None]
    if len(there) < len(values) or not there:
        return ""
    return number(fmean(there)) + (f" ± {stdev(there):.2g}" if len(there) > 1 else "")


def flat(text: str) -> str:
    """Text that neither begins nor ends a block of text."""
    return re.sub(r"[`\x00-\x1f\x7f]+", " ", text)[:100]


def curves(members: Sequence[Member]) -> str:
    """The losses of all against the step, drawn with characters, a sign for each value of the first axis."""
    every = [revision.metrics for _, index in members for revision in index.revisions]
    name = "train_loss" if any(metrics.get("train_loss") is not None for metrics in every) else "val_loss"
    names = axes([run for run, _ in members])
    lines: dict[str, list[tuple[int, float]]] = {}
    for run, index in members:
        points = [(revision.step, revision.metrics.get(name)) for revision in index.revisions]
        sound = [(step, value) for step, value in points if value is not None and math.isfinite(value)]
        lines.setdefault(shown(_coordinate(run, names[0])), []).extend(sound)
    drawn: Mapping[str, Sequence[tuple[int, float]]] = {key: points for key, points in lines.items() if points}
    if not drawn or len({step for points in drawn.values() for step, _ in points}) < 2:
        return ""
    signs = {key: SIGNS[n % len(SIGNS)] for n, key in enumerate(drawn)}
    legend = "  ".join(f"{sign} {flat(f'{names[0]} {key}')}" for key, sign in signs.items())
    figure = plot_all([(signs[key], points) for key, points in drawn.items()])
    title = f"{name.replace('_', ' ')} (nats per token) against the step, log axis."
    return f"{title}\n\n```text\n{figure}\n\n{legend}\n```"
