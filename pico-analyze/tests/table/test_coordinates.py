"""Where a run lies in its suite, as columns: what stands in the provenance of rows, with its own types."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from pico_analyze.table.columns import COLUMNS, schema
from pico_analyze.table.coordinates import axes_of, with_axes, with_coordinates


def frame_of(*coordinates: Any, **more: Any) -> pd.DataFrame:
    """A row each, with coordinates in its provenance; None for a run of no suite."""
    texts = [
        json.dumps({"run_id": f"r{n}"} | ({} if at is None else {"coordinates": at}))
        for n, at in enumerate(coordinates)
    ]
    return pd.DataFrame(
        {"run": [f"r{n}" for n in range(len(texts))], "provenance": texts} | more, index=range(5, 5 + len(texts))
    )


def test_each_axis_is_a_column_with_the_runs_own_values_and_gaps_elsewhere() -> None:
    frame = frame_of({"size": "s", "seed": 1}, {"size": "m", "lr": 0.5}, None, {"size": "s", "seed": 1})
    wide = with_coordinates(frame)
    assert list(wide.columns) == ["run", "provenance", "size", "seed", "lr"]
    assert list(wide.index) == [5, 6, 7, 8]
    assert wide["size"].tolist() == ["s", "m", None, "s"]
    assert str(wide["seed"].dtype) == "Int64" and wide["seed"].isna().tolist() == [False, True, True, False]
    assert wide["seed"].dropna().tolist() == [1, 1]
    assert wide["lr"].dtype == "float64" and wide["lr"].dropna().tolist() == [0.5]
    assert axes_of(wide) == ["size", "seed", "lr"]


def test_a_frame_of_no_suite_is_the_same_frame() -> None:
    for frame in (frame_of(None, None), frame_of({}, "no mapping"), frame_of(["a"], None).iloc[:0]):
        assert with_coordinates(frame) is frame
        assert axes_of(frame) == []


def test_columns_of_tables_and_of_figures_are_no_axes() -> None:
    wide = with_coordinates(frame_of({"step": 3, "value": 2.0, "depth": 4}, between=[1]))
    assert axes_of(wide) == ["depth"]
    assert "step" not in wide and wide["depth"].tolist() == [4]
    assert axes_of(pd.DataFrame(columns=[*COLUMNS, "instead", "shown_params", "between"])) == []


@pytest.mark.parametrize(
    ("values", "dtype", "told"),
    [
        ([1, 2**63 - 1], "Int64", [1, 2**63 - 1]),
        ([-(2**63) + 1, None], "Int64", [-(2**63) + 1]),
        ([1, 2**63], "object", None),
        ([1, 0.5], "float64", [1.0, 0.5]),
        ([0.5, None], "float64", [0.5]),
        ([True, False], "object", ["true", "false"]),
        ([True, 2], "object", ["true", "2"]),
        (["a", 1, None], "object", ["a", "1"]),
        ([0.25, "b"], "object", ["0.25", "b"]),
    ],
)
def test_types_of_a_column(values: list[Any], dtype: str, told: list[Any] | None) -> None:
    column = with_coordinates(frame_of(*({"x": value, "y": 0} for value in values)))["x"]
    assert str(column.dtype) == dtype or (dtype == "object" and told is None)
    found = [value for value in column if not pd.isna(value)]
    assert found == (values if told is None else told)
    assert [type(value) is str for value in found] == [type(one) is str for one in (values if told is None else told)]


def test_a_provenance_that_is_damaged_or_none_has_no_coordinates() -> None:
    good = frame_of({"seed": 1})["provenance"].iloc[0]
    texts = [good, None, '{"coordinates": ', '{"coordinates": 3}', '["coordinates"]', '{"about": "\\"coordinates\\""}']
    wide = with_coordinates(pd.DataFrame({"provenance": texts}))
    assert wide["seed"].isna().tolist() == [False, True, True, True, True, True]


def test_the_file_that_people_open_has_the_axes_too() -> None:
    frame = frame_of({"seed": 1, "on": True}, None, {"seed": 2, "on": None})
    rows = [{name: row.get(name) for name in COLUMNS} for row in frame.to_dict("records")]
    table = with_axes(pa.Table.from_pylist(rows, schema=schema()))
    assert table.column_names == [*COLUMNS, "seed", "on"]
    assert table["seed"].to_pylist() == [1, None, 2] and pa.types.is_integer(table["seed"].type)
    assert table["on"].to_pylist() == ["true", None, None]
    plain = pa.Table.from_pylist(rows[1:2], schema=schema())
    assert with_axes(plain).column_names == list(COLUMNS)
