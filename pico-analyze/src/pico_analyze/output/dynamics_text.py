"""Summaries of learning dynamics (`statistics/dynamics.py`) as text, and as a file beside the rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pico_analyze.errors import StorageError
from pico_analyze.output.text import Format, aligned, as_json, number, params_text
from pico_analyze.table.columns import plain
from pico_schema.files import replace_file

if TYPE_CHECKING:
    import pandas

FILE = "dynamics.csv"


def summary_as(table: pandas.DataFrame, form: Format) -> str:
    """The summaries as text."""
    if form == "json":
        return as_json(table.to_dict("records"))
    if form == "csv":
        return str(table.to_csv(index=False)).rstrip("\n")
    header = ["metric", "site", "layer", "steps", "first", "last", "settles at", "fastest", "between"]
    correlated = "r2" in table.columns
    header += ["R²", "rho", "r of changes"] if correlated else []
    return aligned(header, [_line(row, correlated) for row in table.to_dict("records")], left=(0, 1))


def trend_warning(table: pandas.DataFrame, evaluation: str) -> str | None:
    """What is to be known where series and evaluation both move with the step; None where none does."""
    if "trending" not in table.columns or not (many := int(table["trending"].sum())):
        return None
    return (
        f"warning: {many} of {len(table)} series and {evaluation} both move with the step, as any two things that "
        "change while a model learns: R² and rho say no more than that; r of changes is of what they do from step to "
        "step"
    )


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
        cells += [number(float(row[name])) for name in ("r2", "rho", "r_detrended")]
    return cells


def _between(row: Mapping[Any, Any]) -> str:
    low, high = plain(row["fastest_from"]), plain(row["fastest_to"])
    return "-" if low is None or high is None else f"{int(low)} and {int(high)}"


def write_summary(table: pandas.DataFrame, directories: Iterable[Path]) -> list[str]:
    """Write `dynamics.csv` into each run's directory, beside its rows; returns the names of the files.

    Raises:
        StorageError: a directory cannot be written.
    """
    for directory in directories:
        try:
            replace_file(directory / FILE, table.to_csv(index=False), durable=False)
        except OSError as error:
            raise StorageError(f"{directory / FILE}: cannot be written ({error.strerror}): check the disk") from None
    return [FILE]
