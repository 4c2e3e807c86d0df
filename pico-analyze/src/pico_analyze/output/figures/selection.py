"""The rows of a table that a figure is drawn from: chosen by name, and of one question alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from pico_analyze.errors import DataError, PicoAnalyzeError, UsageError, nearest
from pico_analyze.metrics.spec import METRICS
from pico_analyze.output.figures.request import Request, Selected
from pico_analyze.output.text import question_name, without_target_layer
from pico_analyze.questions.question import Selection
from pico_analyze.table.columns import plain
from pico_analyze.table.coordinates import axes_of

if TYPE_CHECKING:
    import pandas

QUESTION = ["metric", "shown_params", "component", "data", "split", "target_run", "between"]
"""What the rows of one question share; runs, sites, layers, heads and steps may differ."""


def choose(frame: pandas.DataFrame, selected: Selected, request: Request) -> pandas.DataFrame:
    """The rows that are drawn: those selected, of one question.

    Where a table answers several questions, that of the first row is taken if the selection leaves no choice of metric,
    component, data and split open; else the question is put back.

    Args:
        frame: Tidy rows, as `compute` and `behave` give them.
        selected: Which of them.
        request: The figure; its kind decides whether comparisons of layers or of steps are meant.

    Returns:
        The rows, with `between` (compared across layers) and `shown_params` beside their columns; values are those of
        the debiased companion where a metric warned of its own.

    Raises:
        UsageError: nothing is selected (names what there is), or rows of several questions are (names them).
        DataError: the table is empty.
    """
    request.check_dimensions(axes_of(frame))
    if frame.empty:
        raise DataError("the table has no rows: compute something first")
    rows = frame.reset_index(drop=True)
    rows = rows.assign(between=rows["target_layer"].notna(), shown_params=_mapped(rows["params"], without_target_layer))
    for name, values in (
        ("metric", selected.metric),
        ("component", selected.component),
        ("data", selected.data),
        ("split", selected.split),
        ("site", selected.site),
    ):
        rows = _named(rows, name, values)
    for name, text in (("layer", selected.layers), ("head", selected.heads), ("step", selected.steps)):
        if text is not None:
            known = sorted(int(value) for value in rows[name].dropna().unique())
            rows = rows[rows[name].isin(Selection(text).pick(known, what=name, of="the table"))]
    if selected.target is not None:
        rows = _against(rows, selected.target)
    rows = _with_params(rows, selected)
    rows = _of_kind(rows, request)
    return _one_question(debiased(rows), request)


def _mapped(column: pandas.Series[str], change: Callable[[str], str]) -> pandas.Series[str]:
    return column.map({text: change(text) for text in column.unique()})


def _named(rows: pandas.DataFrame, column: str, values: Iterable[str]) -> pandas.DataFrame:
    wanted = list(values)
    if not wanted:
        return rows
    known = sorted(str(value) for value in rows[column].dropna().unique())
    for value in wanted:
        if value not in known:
            raise UsageError(
                f"no row has {column} {value!r}{nearest(value, known)} (there are: {', '.join(known) or 'none'})"
            )
    return rows[rows[column].isin(wanted)]


def _against(rows: pandas.DataFrame, target: str) -> pandas.DataFrame:
    run, sep, step = target.rpartition("@")
    named = rows["target_run"] == (run if sep else target)
    chosen = rows[named & (rows["target_step"].astype(str) == step)] if sep else rows[named]
    if not sep and chosen.empty:
        chosen = rows[rows["target_step"].astype(str) == target]
    if chosen.empty:
        pairs = rows[["target_run", "target_step"]].dropna().drop_duplicates().head(12)
        there = ", ".join(f"{run}@{step}" for run, step in pairs.itertuples(index=False)) or "none"
        raise UsageError(f"no row is compared with {target!r} (there are: {there})")
    return chosen


def _with_params(rows: pandas.DataFrame, selected: Selected) -> pandas.DataFrame:
    for key, value in selected.params.items():
        held = rows["shown_params"].map(lambda text, key=key: _text(json.loads(text).get(key)))
        if not (held == value).any():
            there = ", ".join(sorted(set(held.dropna()))) or "none"
            raise UsageError(f"no row has the parameter {key}={value} (values of {key}: {there})")
        rows = rows[held == value]
    return rows


def _text(value: object) -> str | None:
    return None if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _of_kind(rows: pandas.DataFrame, request: Request) -> pandas.DataFrame:
    """Comparisons of layers for maps of layers, and never else."""
    if request.kind == "layers":
        if not rows["between"].any():
            raise UsageError("no row compares layers: compute with --pairs layers first")
        return rows[rows["between"]]
    if rows["between"].all():
        raise UsageError("these rows compare layers: draw them with --kind layers")
    return rows[~rows["between"]]


def debiased(rows: pandas.DataFrame) -> pandas.DataFrame:
    """The same rows, with the companion's values where a metric warned of its own (CKA on few samples).

    A site has one or the other for all its rows; `instead` names the companion. Its rows have no interval: that of the
    table is the biased value's.
    """
    rows = rows.assign(instead=None)
    for metric in rows["metric"].unique():
        name = None
        with suppress(PicoAnalyzeError):  # a plug-in that is gone
            name = METRICS.get(str(metric)).companion
        if name is None:
            continue
        beside = rows["extra"].map(
            lambda text, name=name: json.loads(text).get(name) if isinstance(text, str) and name in text else None
        )
        sites = rows.loc[(rows["metric"] == metric) & beside.notna(), "site"].unique()
        changed = (rows["metric"] == metric) & rows["site"].isin(sites)
        rows.loc[changed, "value"] = beside[changed].astype(float)
        rows.loc[changed, ["ci_low", "ci_high", "null_mean"]] = float("nan")
        rows.loc[changed, "instead"] = name
    return rows


def _one_question(rows: pandas.DataFrame, request: Request) -> pandas.DataFrame:
    apart = [name for name in QUESTION if name not in (request.hue, request.facet)]
    if request.kind == "steps":
        paired = rows.groupby([*apart, "run", "site", "layer", "head", "step"], dropna=False)["target_step"]
        several = rows[(paired.transform("nunique") > 1).to_numpy(bool)]
        if several.empty:
            raise UsageError("no row compares all steps with each other: compute with --pairs steps first")
        rows = several
    groups = [group for _, group in rows.groupby(apart, dropna=False, sort=False)]
    if len(groups) > 1 and "target_run" in apart:  # each run compared with its own last step is one question
        own = rows["target_run"].isna() | (rows["target_run"] == rows["run"])
        merged = rows[own].groupby([name for name in apart if name != "target_run"], dropna=False, sort=False)
        groups = [group for _, group in merged] + [
            group for _, group in rows[~own].groupby(apart, dropna=False, sort=False)
        ]
    if len(groups) == 1:
        return groups[0]
    names = [question_name(group) for group in groups]
    raise UsageError(
        f"the table answers {len(groups)} questions ({'; '.join(names[:6])}{'; …' if len(names) > 6 else ''}): choose "
        f"one with {_options(groups)}"
    )


def _options(groups: list[pandas.DataFrame]) -> str:
    """The options by which these questions differ."""
    firsts = [group.iloc[0] for group in groups]
    columns = {"metric": "metric", "component": "component", "data": "data", "split": "split", "target_run": "target"}
    found = [f"--{name}" for column, name in columns.items() if len({plain(one[column]) for one in firsts}) > 1]
    if len({one["shown_params"] for one in firsts}) > 1:
        found.append("--param k=v")
    return ", ".join(found) or "--target"
