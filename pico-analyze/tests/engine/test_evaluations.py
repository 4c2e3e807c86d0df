"""Results of evaluation in a run's table: a row each, with its error; and once more, where they have changed."""

from __future__ import annotations

import json
import math

import pytest

from pico_analyze import read_rows
from pico_analyze.engine.evaluations import bring, measure_name
from pico_analyze.statistics.dynamics import evaluation_results, flat_name
from pico_analyze.stores.opening import ReadOptions, open_store
from pico_conformance.runs import write_run
from pico_schema import Evaluation, documents, layout

TASKS = {
    "pairs": {"accuracy": 0.5, "accuracy_se": 0.02, "margin": -1.5, "n_pairs": 600},
    "pairs/island": {"accuracy": 0.25, "n_pairs": 50},
    "text": {"loss": 3.0, "task": "text:my/file", "n_documents": 7},
}


def evaluate(run, step, tasks):
    document = documents.read_run(run)
    [entry] = [entry for entry in document.checkpoints if entry.step == step]
    found = Evaluation(
        run_id=document.id,
        step=step,
        manifest_sha256=entry.manifest_sha256,
        created=document.created,
        producer=document.producer,
        tasks=tasks,
    )
    documents.write(run / layout.evaluation_file(step), found)


@pytest.fixture
def run(tmp_path):
    made = write_run(tmp_path / "runs")
    (made / layout.EVALUATIONS).mkdir()
    evaluate(made, 1, TASKS)
    return made


def test_each_result_is_a_row_with_its_error(run, tmp_path):
    frame, directory = bring(run, tmp_path / "analysis", ReadOptions())
    rows = {(row["step"], row["metric"]): row for row in frame.to_dict("records")}
    assert set(rows) == {
        *((1, f"eval/pairs/{name}") for name in ("accuracy", "margin")),
        (1, "eval/pairs/island/accuracy"),
        (1, "eval/text/loss"),
    }
    row = rows[1, "eval/pairs/accuracy"]
    assert (row["value"], row["n_samples"], row["component"], row["site"]) == (0.5, 600, "evaluation", "pairs")
    assert json.loads(row["extra"]) == {"standard_error": 0.02}
    assert rows[1, "eval/text/loss"]["n_samples"] == 7
    assert read_rows(directory)["metric"].tolist() == frame["metric"].tolist()


def test_what_was_measured_anew_takes_the_place_of_what_was_there(run, tmp_path):
    bring(run, tmp_path / "analysis", ReadOptions())
    evaluate(run, 1, {"pairs": {"accuracy": 0.75}})
    frame, directory = bring(run, tmp_path / "analysis", ReadOptions())
    assert frame["value"].tolist() == [0.75]
    table = read_rows(directory)
    assert table[table["metric"] == "eval/pairs/accuracy"]["value"].tolist() == [0.75]


def test_nothing_is_written_where_no_directory_is_given(run):
    frame, directory = bring(run, None, ReadOptions())
    assert len(frame) == 4 and directory is None


@pytest.mark.parametrize("flat", ["pairs.accuracy", "pairs/island.accuracy", "a/b.py.loss"])
def test_names_of_tables_lead_back_to_names_of_results(flat):
    assert flat_name(measure_name(flat)) == flat
    assert measure_name("val_loss") is None and flat_name("val_loss") == "val_loss"


def test_results_are_found_under_both_names(run):
    store = open_store(run)
    assert evaluation_results(store, "eval/pairs/accuracy") == evaluation_results(store, "pairs.accuracy") == {1: 0.5}
    assert math.isclose(evaluation_results(store, "eval/pairs/island/accuracy")[1], 0.25)
