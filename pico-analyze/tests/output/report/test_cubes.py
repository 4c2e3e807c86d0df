"""Cubes of a report: each value of a table is at its place, and what is not there is told from what is undefined."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
from figure_rows import lines_of, pairs_of_layers, pairs_of_steps, rows_of
from hypothesis import given
from hypothesis import strategies as st

from pico_analyze.output.report.cubes import AXES, MOST_CELLS, Cube, cubes
from pico_analyze.table.columns import plain


def decoded(cube: Cube) -> dict[tuple[object, ...], tuple[float, str | None]]:
    """Value and reason by place, read back cell by cell."""
    value = cube.arrays.get("table", cube.arrays["value"])
    found = {}
    for place in np.ndindex(value.shape):
        code = 0 if cube.codes is None else int(cube.codes[place])
        if code or not math.isnan(value[place]):
            names = tuple(cube.axes[axis][i] for axis, i in zip(AXES, place, strict=True))
            found[names] = float(value[place]), cube.reasons[code - 1] if code else None
    return found


def expected(rows: pd.DataFrame, target: str | None = None) -> dict[tuple[object, ...], tuple[float, str | None]]:
    """The same, from the rows one by one."""
    found = {}
    for row in rows.to_dict("records"):
        place = tuple(plain(row[name]) for name in ("run", "split", "site", "layer", "head", "step"))
        reason = plain(row["reason"]) if math.isnan(row["value"]) else None
        found[*place, None if target is None else plain(row[target])] = float(np.float32(row["value"])), reason
    return found


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(
        np.array_equal(a[k][0], b[k][0], equal_nan=True) and a[k][1] == b[k][1] for k in a
    )


@given(st.data())
def test_the_cube_has_the_values_of_the_rows_and_no_others(data: st.DataObject) -> None:
    """Any subset of places of two runs of different shapes, with undefined values in it."""
    place = st.fixed_dictionaries(
        {
            "run": st.sampled_from(["a", "b"]),
            "layer": st.sampled_from([None, 0, 1, 7]),
            "head": st.sampled_from([None, 0, 3]),
            "step": st.sampled_from([0, 1, 128, 4000]),
            "split": st.sampled_from([None, "val", "train"]),
            "site": st.sampled_from(["attn.v", "mlp.up"]),
            "value": st.one_of(st.floats(-1e6, 1e6, width=32), st.just(math.nan)),
        }
    )
    places = data.draw(
        st.lists(place, min_size=1, max_size=30, unique_by=lambda p: tuple(p[k] for k in sorted(p) if k != "value"))
    )
    rows = rows_of([p | {"reason": "too few" if math.isnan(p["value"]) else None} for p in places], lambda _: 0.0)
    [cube] = cubes(rows)
    assert same(decoded(cube), expected(rows))


def test_each_question_is_a_cube_of_its_own() -> None:
    """Metrics, parameters, components and runs compared with are never mixed; runs, sites and steps are places."""
    frames = [
        lines_of(metric="norm"),
        lines_of(metric="norm", params='{"kind": "nuclear"}'),
        lines_of(metric="norm", component="ov_circuit", site="attn.ov"),
        lines_of(metric="cka", target_run="m", target_step=100),
        lines_of(metric="cka", target_run="other", target_step=100),
    ]
    found = cubes(*frames, lines_of(metric="norm", run="n", layers=5, steps=(0, 7)))
    assert len(found) == 5
    assert [cube.component for cube in found][-1] == "ov_circuit"  # sites first
    norm = next(cube for cube in found if cube.metric == "norm" and not cube.params)
    assert norm.axes["run"] == ["m", "n"]
    assert norm.axes["layer"] == [0, 1, 2, 3, 4]
    assert norm.axes["step"] == [0, 1, 7, 10, 100]
    targets = {cube.target for cube in found if cube.metric == "cka"}
    assert targets == {"step 100", "run other, step 100"}


def test_pairs_have_an_axis_of_targets() -> None:
    [steps], [layers] = cubes(pairs_of_steps()), cubes(pairs_of_layers())
    assert (steps.pairs, steps.axes["target"]) == ("steps", [0, 1, 10, 100])
    assert same(decoded(steps), expected(pairs_of_steps(), "target_step"))
    assert (layers.pairs, layers.axes["target"]) == ("layers", [0, 1, 2])
    assert same(decoded(layers), expected(pairs_of_layers(), "target_layer"))


def test_what_a_metric_warned_of_is_kept_and_its_companion_drawn() -> None:
    rows = lines_of(metric="cka", target_run="m", target_step=100)
    rows["extra"] = [json.dumps({"debiased": value / 2}) for value in rows["value"]]
    rows = rows.assign(ci_low=0.1, ci_high=0.2)
    [cube] = cubes(rows)
    assert cube.instead == {"attn.v": "debiased"}
    np.testing.assert_array_equal(cube.arrays["value"], cube.arrays["table"] / 2)
    assert same(decoded(cube), expected(rows))
    assert "low" not in cube.arrays  # the interval is the biased value's


def test_intervals_and_chance_stand_at_their_values() -> None:
    rows = lines_of(metric="norm")
    rows = rows.assign(ci_low=rows["value"] - 1, ci_high=rows["value"] + 1, null_mean=0.5)
    [cube] = cubes(rows)
    np.testing.assert_allclose(cube.arrays["low"], cube.arrays["value"] - 1, atol=1e-6)
    np.testing.assert_allclose(cube.arrays["high"], cube.arrays["value"] + 1, atol=1e-6)
    assert set(cube.arrays["chance"].ravel().tolist()) == {0.5}


def test_an_infinite_value_says_so_and_many_reasons_are_bounded() -> None:
    places = [{"step": i, "layer": 0, "value": math.nan, "reason": f"reason {i}"} for i in range(400)]
    rows = rows_of(places, lambda _: 0)
    rows.loc[0, ["value", "reason"]] = [math.inf, None]
    [cube] = cubes(rows)
    found = decoded(cube)
    assert len(found) == 400
    assert found["m", "val", "attn.v", 0, None, 0, None] == (math.inf, "it is infinite")
    assert len(cube.reasons) == 254
    assert found["m", "val", "attn.v", 0, None, 399, None][1] == "another reason: the table has it"


def test_what_is_too_large_for_a_page_is_named_and_left_out() -> None:
    """Sparse rows of far places: the cube of them would be a hundred times as large as the table."""
    rows = rows_of([{"step": i, "layer": i, "head": i % 3} for i in range(1200)], lambda _: 1.0)
    assert MOST_CELLS < 1200 * 1200 * 3
    [cube] = cubes(rows)
    assert not cube.arrays
    assert cube.refused.startswith("4,320,000 places are too many for a page")
