"""Where a run lies in its suite, as columns of a table: one for each axis, from the provenance of the rows.

Runs of a suite (`pico-train suite`) differ in named things: `size`, `seed`, any setting. Rows carry the run's
coordinates in their provenance, and frames have them as columns after the others, missing where a run has no such axis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pico_analyze.table.columns import COLUMNS
from pico_schema import strict_json

if TYPE_CHECKING:
    import pandas
    import pyarrow

FACT = "coordinates"
"""Key of the provenance that holds them: `stores.lineage` writes it."""
_OF_FIGURES = frozenset({"between", "shown_params", "instead"})
"""Columns that figures add to the rows that they draw."""


def axes_of(frame: pandas.DataFrame) -> list[str]:
    """The columns of a frame beside those of every table: the axes of the runs' suites."""
    return [str(name) for name in frame.columns if name not in COLUMNS and name not in _OF_FIGURES]


def with_axes(table: pyarrow.Table) -> pyarrow.Table:
    """The same of a table as it lies on disk, for the file that people open."""
    import pandas as pd
    import pyarrow as pa

    wide = with_coordinates(table.select(["provenance"]).to_pandas())
    for axis in axes_of(wide):
        values = [None if pd.isna(value) else value for value in wide[axis].astype(object)]
        table = table.append_column(axis, pa.array(values, from_pandas=True))
    return table


def with_coordinates(frame: pandas.DataFrame) -> pandas.DataFrame:
    """The frame with a column for each axis of the runs' suites; as it is where no run is of one."""
    known: dict[str, Mapping[str, Any]] = {}
    for text in frame["provenance"].unique():
        if isinstance(text, str) and f'"{FACT}"' in text and (found := _read(text)):
            known[text] = found
    axes = [axis for axis in dict.fromkeys(axis for found in known.values() for axis in found) if axis not in COLUMNS]
    if not axes:
        return frame
    added = {axis: _column([known.get(text, {}).get(axis) for text in frame["provenance"]], frame) for axis in axes}
    wider: pandas.DataFrame = frame.assign(**added)
    return wider


def _read(text: str) -> Mapping[str, Any]:
    try:
        found = strict_json.parse(text.encode())[FACT]
    except (ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _column(values: Sequence[Any], frame: pandas.DataFrame) -> pandas.Series[Any]:
    """Whole numbers stay whole where some are missing; else numbers or texts."""
    import pandas as pd

    there = [value for value in values if value is not None]
    whole = bool(there) and all(isinstance(value, int) and not isinstance(value, bool) for value in there)
    kind: Any = "Int64" if whole and all(abs(value) < 2**63 for value in there) else None
    if kind is None and not all(isinstance(value, int | float) and not isinstance(value, bool) for value in there):
        values, kind = [value if value is None or isinstance(value, str) else _text(value) for value in values], object
    column: pd.Series[Any] = pd.Series(list(values), index=frame.index, dtype=kind)
    return column


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
