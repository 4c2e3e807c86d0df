"""Axes of suites: columns of tables, and what colours, panels and means tell apart."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from figure_rows import lines_of

from pico_analyze.errors import UsageError
from pico_analyze.output.figures.request import Request, Selected
from pico_analyze.output.figures.selection import choose
from pico_analyze.output.figures.series import series
from pico_analyze.table.coordinates import axes_of, with_coordinates


def family() -> pd.DataFrame:
    """Two sizes and three seeds; the value is 10 times the size, and the seed."""
    frames = []
    for size, worth in (("s", 10.0), ("m", 20.0)):
        for seed in (1, 2, 3):
            facts = json.dumps({"suite": "sizes", "coordinates": {"size": size, "seed": seed}}, sort_keys=True)
            rows = lines_of(layers=1, run=f"{size}-{seed}", provenance=facts)
            frames.append(rows.assign(value=worth + seed))
    return with_coordinates(pd.concat(frames, ignore_index=True))


def points(frame: pd.DataFrame, request: Request) -> pd.DataFrame:
    return series(choose(frame, Selected(), request), request)


def test_coordinates_are_columns_and_whole_numbers_stay_whole() -> None:
    frame = family()
    assert axes_of(frame) == ["seed", "size"]
    assert frame["seed"].dtype == "Int64" and set(frame["size"]) == {"s", "m"}
    alone = lines_of(layers=1, run="alone")
    assert axes_of(with_coordinates(alone)) == []
    both = with_coordinates(pd.concat([family(), alone], ignore_index=True))
    assert both.loc[both["run"] == "alone", "seed"].isna().all()


@pytest.mark.parametrize(
    ("values", "kind"), [([True, False], {"true", "false"}), ([0.1, 1], {0.1, 1.0}), ([1, "x"], {"1", "x"})]
)
def test_values_of_every_kind_have_a_place(values: list[object], kind: set[object]) -> None:
    facts = [json.dumps({"coordinates": {"axis": value}}) for value in values]
    frame = pd.concat([lines_of(layers=1, run=f"r{n}", provenance=text) for n, text in enumerate(facts)])
    assert set(with_coordinates(frame.reset_index(drop=True))["axis"]) == kind


def test_a_document_that_holds_no_coordinates_adds_no_column() -> None:
    for text in ('{"coordinates": 3}', '{"coordinates"', '{"coordinates": {"run": "x"}}', None):
        assert axes_of(with_coordinates(lines_of(layers=1, provenance=text))) == []


def test_colours_and_panels_by_axes() -> None:
    found = points(family(), Request(hue="seed", facet="size"))
    assert list(dict.fromkeys(found["colour"])) == ["seed 1", "seed 2", "seed 3"]
    assert list(dict.fromkeys(found["panel"])) == ["s", "m"]
    one = found[(found["colour"] == "seed 2") & (found["panel"] == "m")]
    assert set(one["value"]) == {22.0} and len(one) == 4


def test_the_mean_over_seeds_leaves_sizes_apart() -> None:
    for request in (Request(hue="size", over="seed"), Request(hue="size", over="run")):
        found = points(family(), request)
        assert list(dict.fromkeys(found["colour"])) == ["s", "m"]
        np.testing.assert_allclose(found.loc[found["colour"] == "s", "value"], 12.0)
        np.testing.assert_allclose(found.loc[found["colour"] == "m", "high"], 23.0)  # 22, and a deviation of 1


def test_a_word_that_is_no_axis_is_told_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"hue 'sed' does not exist; did you mean 'seed'\? \(there are: layer, .*seed"):
        points(family(), Request(hue="sed"))
    with pytest.raises(UsageError, match=r"over 'layers' does not exist; did you mean 'layer'"):
        points(lines_of(), Request(over="layers"))
