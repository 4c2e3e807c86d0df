"""Findings: sentences that hold for the rows they were made from, with places that select those rows."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

import pico_analyze
from pico_analyze.errors import UsageError
from pico_analyze.output.findings import findings
from pico_analyze.output.study_text import findings_text, study_text, summary_text

STEPS = [0, 1, 2, 4, 8, 16]


def rows(values, *, metric="cka", site="attn.v", layer=0, head=None, steps=STEPS, target=None, run="r", **more):
    fixed = {
        "run": run,
        "tokens_seen": 0,
        "split": "val" if target is not None else None,
        "data": "activations" if target is not None else "weights",
        "component": "simple" if head is None else "ov_circuit",
        "site": site,
        "layer": layer,
        "head": head,
        "metric": metric,
        "params": "{}",
        "target_run": None if target is None else run,
        "target_step": pd.NA if target is None else target,
        "target_layer": pd.NA,
        "reason": None,
        "ci_low": math.nan,
        "ci_high": math.nan,
        "null_mean": math.nan,
        "extra": "{}",
    }
    return [fixed | {"step": step, "value": value} | more for step, value in zip(steps, values, strict=True)]


def table(*parts) -> pd.DataFrame:
    frame = pd.DataFrame([row for part in parts for row in part])
    return frame.astype(dict.fromkeys(("layer", "head", "target_step", "target_layer"), "Int64"))


def test_when_a_site_settles_is_told_of_its_first_and_last_layer():
    frame = table(
        rows([0.1, 0.92, 0.95, 0.96, 0.99, 1.0], layer=0, target=16),
        rows([0.1, 0.2, 0.3, 0.95, 0.99, 1.0], layer=1, target=16),
        rows([0.1, 0.2, 0.3, 0.4, 0.5, 1.0], layer=2, target=16),
    )
    told = findings(frame)
    assert told[0].text == (
        "cka of attn.v (activations) stays at 0.9 or above first in layer 0, by step 1 (not yet at 0), and last in "
        "layer 1, by step 4 (not yet at 2); in 1 of 3 layers not before step 16 itself."
    )
    assert told[0].caveat.startswith("Similarity to step 16 says how near the end is, not that learning has ended")
    assert told[0].selection["site"] == "attn.v" and told[0].selection["step"] == 4
    # per doubling of 1 + step; the target's own 1.0 is no rise of layer 2
    assert (
        told[1].text
        == "cka of attn.v (activations) rises fastest in layer 1, from 0.3000 to 0.9500 between steps 2 and 4."
    )


def test_of_several_targets_the_latest_is_told(run_dir):
    """A table with CKA to the first step (of a page that grew) and to the last, and one of all pairs of steps."""
    last = rows([0.1, 0.2, 0.95, 0.96, 0.99, 1.0], target=16)
    first = rows([1.0, 0.9, 0.8, 0.7, 0.6, 0.5], target=0)
    told = findings(table(first, last))
    assert [one.text for one in told] == [one.text for one in findings(table(last))] and len(told) == 2
    pairs = pico_analyze.compute("cka", run_dir, sites="attn.v", pairs="steps")
    plain = pico_analyze.compute("cka", run_dir, sites="attn.v", target="last")
    assert findings(pairs)[0].text == findings(plain)[0].text


def test_what_is_beyond_the_bound_is_counted():
    frame = table(*(rows([0.1, 0.2, 0.95, 0.96, 0.99, 1.0], site=f"s{at}", target=16) for at in range(10)))
    assert "Of 10 compared sites 8 are told of: the table has all." in [one.text for one in findings(frame)]


def test_layers_that_settle_one_after_the_other_are_said_to():
    frame = table(
        *(rows([0.1] * (at + 1) + [0.95] * (6 - at) + [1.0], layer=at, steps=range(8), target=7) for at in range(6))
    )
    orders = [one.text for one in findings(frame) if "Kendall" in one.text]
    assert orders == [
        "cka of attn.v (activations) settles from the first layer to the last (Kendall's τ 1.00 over 6 layers, "
        "p = 0.0028)."
    ]  # 2 of 6! orders


def test_a_head_apart_is_named_and_selected():
    values = np.linspace(1, 2, 16)
    values[6] = 9.0
    parts = [
        rows([1.0, value], metric="per", site="attn.ov", layer=at // 4, head=at % 4, steps=[0, 8])
        for at, value in enumerate(values)
    ]
    (told,) = [one for one in findings(table(*parts)) if "apart" in one.text]
    assert told.text.startswith("Layer 1, head 2 lies apart: per of attn.ov (weights) is 9.0000 at the last step")
    assert "median of 16 heads" in told.text
    chosen = {name: told.selection[name] for name in ("metric", "component", "site", "layer", "head", "step")}
    assert chosen == {"metric": "per", "component": "ov_circuit", "site": "attn.ov", "layer": 1, "head": 2, "step": 8}


def test_what_changes_before_the_loss_and_after_it():
    early = rows([0.0, 1.0, 1.0, 1.0, 1.0, 1.0], metric="norm")
    late = rows([0.0, 0.0, 0.0, 0.0, 0.0, 1.0], metric="gini")
    losses = {"r": {0: 8.0, 1: 8.0, 2: 7.9, 4: 4.0, 8: 4.0, 16: 4.0}}
    (told,) = [one for one in findings(table(early, late), losses) if "loss" in one.text]
    assert "goes from 8.0000 to 4.0000 and is halfway by step 4 (not yet at 2)" in told.text
    assert "before it, norm of weights (1); after it, gini of weights (16)." in told.text
    assert "no sign that one causes the other" in told.caveat
    assert not [one for one in findings(table(early, late)) if "loss" in one.text]


def test_the_debiased_value_is_told_where_the_biased_one_was_warned_of():
    biased = rows([0.95, 0.96, 0.97, 0.98, 0.99, 1.0], target=16)
    honest = [0.1, 0.2, 0.3, 0.95, 0.97, 1.0]
    for row, value in zip(biased, honest, strict=True):
        row["extra"] = f'{{"debiased": {value}}}'
    told = findings(table(biased))[0]
    assert "by step 4 (not yet at 2)" in told.text


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (table(rows([0.5], steps=[4])), "Nothing over time can be said: only step 4 has values."),
        (table(rows([math.nan] * 6)), "Nothing over time can be said: no row has a value."),
        (table(rows([0.5] * 6)), "Nothing stands out in these rows."),
    ],
    ids=["one step", "all NaN", "constant"],
)
def test_rows_that_tell_nothing_are_said_to(frame, said):
    (told,) = findings(frame)
    assert told.text == said and told.caveat


def test_a_threshold_that_is_none_and_tables_of_others_are_refused():
    with pytest.raises(UsageError, match="tau=nan is no threshold"):
        pico_analyze.findings(table(rows([0.5] * 6)), tau=math.nan)
    with pytest.raises(UsageError, match="without the column 'run' tells nothing"):
        pico_analyze.findings(pd.DataFrame({"step": [1, 2], "value": [0.0, 1.0]}))


def test_an_empty_table_is_said_to_be_empty():
    (told,) = findings(table(rows([0.5] * 6)).iloc[0:0])
    assert told.text == "There are no rows, so nothing can be said."
    assert summary_text(table(rows([0.5] * 6)).iloc[0:0]) == "no rows"


def test_of_several_runs_each_sentence_names_its_own():
    frame = table(rows([0.0, 1.0, 1.0, 1.0, 1.0, 1.0], run="a"), rows([0.0, 0.0, 0.0, 1.0, 1.0, 1.0], run="b"))
    told = findings(frame)
    assert [one.selection["run"] for one in told] == ["a", "b"]
    assert [one.text.split(": ")[0] for one in told] == ["a", "b"]


def test_each_selection_finds_rows_of_its_run(run_dir):
    frame = pico_analyze.study("overview", run_dir)
    told = findings(frame, {"demo": {0: 8.0, 1: 7.0, 2: 6.0, 4: 5.0, 8: 4.0}})
    assert len(told) > 5
    for one in told:
        found = frame
        for name, value in one.selection.items():
            found = found[found[name] == value]
        assert len(found), one


def test_the_text_fits_the_line_and_tells_shared_caveats_once():
    frame = table(
        rows([0.1, 0.92, 0.95, 0.96, 0.99, 1.0], target=16),
        rows([0.1, 0.2, 0.95, 0.96, 0.99, 1.0], site="mlp.down", target=16),
    )
    told = findings(frame)
    text = findings_text(told, 72)
    assert max(map(len, text.splitlines())) <= 72
    assert text.count("not that learning has ended") <= 1 and text.count("[1]") == 3  # two sentences, one note
    whole = study_text(frame, told)
    assert "cka     attn.v    val activations  1 layer" in whole and "halfway" in whole
