"""Which points are drawn: lines, panels, means over runs, what stands in place of a biased value."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from figure_rows import lines_of, pairs_of_steps, rows_of
from hypothesis import given
from hypothesis import strategies as st

from pico_analyze.errors import DataError, UsageError
from pico_analyze.output.figures.request import Request, Selected
from pico_analyze.output.figures.selection import choose
from pico_analyze.output.figures.series import series


def points(frame: pd.DataFrame, request: Request = Request(), **selected: object) -> pd.DataFrame:  # noqa: B008
    return series(choose(frame, Selected(**selected), request), request)  # type: ignore[arg-type]


def test_a_line_a_layer_and_a_panel_a_site_in_the_order_of_computation():
    frame = pd.concat([lines_of(site=site) for site in ("mlp.down", "attn.o", "attn.v", "attn.q")])
    found = points(frame)
    assert list(dict.fromkeys(found["panel"])) == ["attn.q", "attn.v", "attn.o", "mlp.down"]
    assert list(dict.fromkeys(found["colour"])) == ["layer 0", "layer 1", "layer 2"]
    one = found[(found["panel"] == "attn.o") & (found["colour"] == "layer 2")]
    assert list(one["x"]) == [0, 1, 10, 100]
    np.testing.assert_allclose(one["value"], [2.0, 2.001, 2.01, 2.1])


def test_tokens_are_those_of_the_table_and_refused_where_they_are_not_known():
    assert list(points(lines_of(layers=1), Request(x="tokens"))["x"]) == [0, 1000, 10_000, 100_000]
    unknown = lines_of(layers=1)
    unknown.loc[2, "tokens_seen"] = pd.NA
    with pytest.raises(
        UsageError, match=r"tokens seen are not known at each step of m: draw it over steps \(--x step\)"
    ):
        points(unknown, Request(x="tokens"))


def test_the_whole_is_drawn_and_heads_where_they_are_asked_for():
    frame = lines_of(layers=2, heads=(None, 0, 1))
    assert points(frame)["line"].nunique() == 2
    by_head = points(frame, Request(hue="head"))
    assert list(dict.fromkeys(by_head["panel"])) == ["layer 0", "layer 1"]
    assert list(dict.fromkeys(by_head["colour"])) == ["head 0", "head 1"]
    with pytest.raises(UsageError, match="no row is of a head: measure a circuit"):
        points(lines_of(), Request(hue="head"))


@given(st.lists(st.lists(st.floats(-10, 10), min_size=3, max_size=3), min_size=2, max_size=5))
def test_the_mean_over_runs_has_its_standard_deviation_as_a_band(values):
    frame = pd.concat(
        [
            rows_of([{"run": f"seed{n}", "layer": 0, "step": s} for s in range(3)], lambda row, v=v: v[row["step"]])
            for n, v in enumerate(values)
        ]
    )
    found = points(frame, Request(over="run"))
    table = np.array(values)
    np.testing.assert_allclose(found["value"], table.mean(0), atol=1e-12)
    np.testing.assert_allclose(found["high"] - found["low"], 2 * table.std(0, ddof=1), atol=1e-12)
    assert set(found["band"]) == {"deviation"}


def test_nothing_is_averaged_over_one():
    with pytest.raises(UsageError, match="there is only one run: nothing to average over"):
        points(lines_of(), Request(over="run"))


def test_runs_that_are_compared_with_their_own_last_step_are_one_question():
    frame = pd.concat([lines_of(run=run, target_run=run, target_step=100, metric="cka") for run in ("a", "b")])
    found = points(frame, Request(hue="run"))
    assert set(found["colour"]) == {"a", "b"}
    assert sorted(found.loc[found["at_target"], "x"].unique()) == [100]


def test_several_questions_are_put_back_with_the_options_that_tell_them_apart():
    frame = pd.concat([lines_of(), lines_of(metric="per"), lines_of(data="weights", split=None)])
    with pytest.raises(UsageError, match=r"answers 3 questions \(effective_rank simple val activations; per simple"):
        points(frame)
    with pytest.raises(UsageError, match="choose one with --data, --split"):
        points(frame, metric=("effective_rank",))
    assert len(points(frame, metric=("effective_rank",), data=("weights",))) == 12


def test_parameters_choose_among_questions():
    frame = pd.concat([lines_of(metric="cka", params=json.dumps({"kernel": kernel})) for kernel in ("linear", "rbf")])
    with pytest.raises(UsageError, match=r"choose one with --param k=v"):
        points(frame)
    assert len(points(frame, params={"kernel": "rbf"})) == 12
    with pytest.raises(UsageError, match=r"no row has the parameter kernel=rfb \(values of kernel: linear, rbf\)"):
        points(frame, params={"kernel": "rfb"})


@pytest.mark.parametrize(
    ("selected", "message"),
    [
        ({"metric": ("effective_rang",)}, r"no row has metric 'effective_rang'; did you mean 'effective_rank'\? "),
        ({"site": ("attn.x",)}, r"no row has site 'attn.x'.*\(there are: attn.v\)"),
        ({"layers": "7"}, "layer 7 does not exist: the table has layers 0 to 2"),
        ({"steps": "3"}, "step 3 does not exist: the table has steps 0, 1, 10 and 100"),
        ({"heads": "0"}, "head 0 does not exist: the table has no head"),
        ({"target": "last"}, "no row is compared with 'last'"),
    ],
)
def test_what_is_not_in_the_table_is_named_with_what_is(selected, message):
    with pytest.raises(UsageError, match=message):
        points(lines_of(), **selected)


def test_an_empty_table_is_told_of():
    with pytest.raises(DataError, match="the table has no rows: compute something first"):
        points(lines_of().head(0))


def test_a_step_compared_with_several_needs_a_target():
    with pytest.raises(UsageError, match="each step is compared with several: choose one with --target"):
        points(pairs_of_steps())
    assert list(points(pairs_of_steps(), target="m@100")["value"]) == pytest.approx([0.7, 0.8, 0.9, 1.0])
    assert list(points(pairs_of_steps(), target="0")["value"]) == pytest.approx([1.0, 0.9, 0.8, 0.7])


def test_the_debiased_value_is_drawn_where_the_biased_one_warns():
    few = lines_of(layers=1, metric="cka", target_run="m", target_step=100, ci_low=0.1, ci_high=0.2)
    few["extra"] = [json.dumps({"debiased": value}) for value in (0.1, 0.2, 0.3, 1.0)]
    many = lines_of(layers=1, metric="cka", target_run="m", target_step=100, site="mlp.down", ci_low=0.1, ci_high=0.2)
    found = points(pd.concat([few, many]))
    changed = found[found["panel"] == "attn.v"]
    assert list(changed["value"]) == [0.1, 0.2, 0.3, 1.0]
    assert changed["low"].isna().all()  # the interval of the table is the biased value's
    kept = found[found["panel"] == "mlp.down"]
    np.testing.assert_allclose(kept["value"], [0, 0.001, 0.01, 0.1])
    assert set(kept["band"]) == {"interval"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"kind": "line"}, r"kind 'line' does not exist; did you mean 'lines'\?"),
        ({"width": "wide"}, "width 'wide' does not exist"),
        ({"hue": "run", "over": "run"}, "run is given to two of hue, facet and over"),
        ({"kind": "heads", "hue": "run"}, "hue, facet and over belong to lines and beside"),
        ({"order": True}, "order belongs to heatmaps of steps"),
        ({"evaluation": ("val_loss",)}, "evaluation belongs to figures of kind beside"),
    ],
)
def test_words_that_are_none_and_those_that_exclude_each_other_are_refused(words, message):
    with pytest.raises(UsageError, match=message):
        Request(**words)


def test_what_is_undefined_is_a_gap_and_never_a_number():
    frame = lines_of(layers=1)
    frame.loc[1, "value"] = math.nan
    assert points(frame)["value"].isna().tolist() == [False, True, False, False]
