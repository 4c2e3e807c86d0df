"""Learning dynamics as a table: the summaries of `dynamics.py` for every series of an analysis, and as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pico_analyze.errors import DataError, nearest
from pico_analyze.output.text import Format, aligned, as_json, number, params_text
from pico_analyze.table.columns import plain

if TYPE_CHECKING:
    import pandas

    from pico_analyze.engine.outcome import Outcome
    from pico_analyze.stores.opening import ReadOptions

FILE = "dynamics.csv"


def summary_table(
    outcome: Outcome, tau: float, evaluation: str | None, options: ReadOptions | None = None
) -> pandas.DataFrame:
    """One row per series, those of all runs together.

    Raises:
        DataError: a run has no evaluation of this name; the message names those it has.
    """
    import pandas as pd

    parts = []
    for location, rows in outcome.frames():
        parts.append(_summarised(rows, tau, results(location, evaluation, options) if evaluation else None))
    return pd.concat(parts, ignore_index=True)


def _summarised(rows: pandas.DataFrame, tau: float, found: dict[int, float] | None) -> pandas.DataFrame:
    """Each metric by itself: whether its target moves along is a matter of each."""
    import pandas as pd

    from pico_analyze.statistics.dynamics import summarise

    groups = [part for _, part in rows.groupby(["metric", "params", "component", "data"], sort=False, dropna=False)]
    return pd.concat([summarise(part, tau, found) for part in groups], ignore_index=True)


def results(location: str, name: str, options: ReadOptions | None = None) -> dict[int, float]:
    """Evaluation results of a run, by step.

    Raises:
        DataError: there are none of this name.
    """
    from pico_analyze.stores.opening import open_store

    store = open_store(location, options)
    by_step = store.evaluations()
    found = {step: values[name] for step, values in by_step.items() if name in values}
    if not found:
        known = sorted({key for values in by_step.values() for key in values})
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise DataError(f"run {store.run!r} has no evaluation {name!r}{nearest(name, known)} ({has})")
    return found


def summary_as(table: pandas.DataFrame, form: Format) -> str:
    """The summaries as text."""
    if form == "json":
        return as_json(table.to_dict("records"))
    if form == "csv":
        return str(table.to_csv(index=False)).rstrip("\n")
    header = ["metric", "site", "layer", "steps", "first", "last", "settles at", "fastest", "between"]
    correlated = "r2" in table.columns
    header += ["R²", "rho"] if correlated else []
    return aligned(header, [_line(row, correlated) for row in table.to_dict("records")], left=(0, 1))


def _line(row: Mapping[Any, Any], correlated: bool) -> list[str]:
    layer, head = plain(row["layer"]), plain(row.get("head"))
    place = "-" if layer is None else str(layer) if head is None else f"{layer}.{head}"
    settled = plain(row["convergence_step"])
    cells = [
        f"{row['metric']}{params_text(row)}",
        f"{row['component']} {row['site']} {row['data']}",
        place,
        str(row["n_steps"]),
        *(number(float(row[name])) for name in ("first", "last")),
        "-" if settled is None else f"{int(settled)}",
        number(float(row["fastest_rate"])),
        _between(row),
    ]
    if correlated:
        cells += [number(float(row[name])) for name in ("r2", "rho")]
    return cells


def _between(row: Mapping[Any, Any]) -> str:
    low, high = plain(row["fastest_from"]), plain(row["fastest_to"])
    return "-" if low is None or high is None else f"{int(low)} and {int(high)}"


def write_summary(table: pandas.DataFrame, outcome: Outcome) -> list[str]:
    """Write `dynamics.csv` beside each run's rows; returns the names of the files."""
    for directory in outcome.directories.values():
        table.to_csv(directory / FILE, index=False)
    return [FILE]
