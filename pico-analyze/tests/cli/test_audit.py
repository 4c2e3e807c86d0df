"""The command `audit`: what it prints, and how it ends."""

import csv
import io
import json
from pathlib import Path

import pytest
from foreign import write
from lookalikes import pythia
from synthetic import make_run

import pico_analyze


@pytest.fixture
def series(tmp_path: Path) -> Path:
    run = pythia()
    run.weights[1500] = run.weights[3000]
    run.dtypes[3750] = "float16"
    for step, name in run.names.items():
        write(tmp_path / "series" / name, run.content(step))
    return tmp_path / "series"


def test_findings_are_a_table_and_the_last_line_counts_them(series, pico):
    answer = pico("audit", series)
    assert answer.code == 3
    assert answer.out.splitlines()[1].split() == ["step", "name", "check", "severity", "finding"]
    assert "1500  step1500  payloads   error     steps 1500 and 3000 hold the same weights" in answer.out
    last = answer.err.splitlines()[-1]
    assert last.startswith("series: 23 checkpoints, 7 checks (") and last.endswith("), 1 error, 1 warning")


def test_json_and_csv_hold_the_same_rows_as_the_function(series, pico):
    rows = json.loads(pico("audit", series, "--format", "json").out)
    assert list(rows[0]) == ["run", "step", "name", "check", "severity", "finding", "figures"]
    assert [(row["step"], row["severity"]) for row in rows] == [(1500, "error"), (3750, "warning")]
    assert rows[0]["figures"]["steps"] == [1500, 3000]
    table = list(csv.DictReader(io.StringIO(pico("audit", series, "--format", "csv").out)))
    assert [row["finding"] for row in table] == [row["finding"] for row in rows]
    frame = pico_analyze.audit(series)
    assert frame["finding"].tolist() == [row["finding"] for row in rows]
    assert frame["figures"][0]["steps"] == [1500, 3000] and str(frame["step"].dtype) == "Int64"


def test_warnings_alone_leave_the_exit_code_at_0(runs, pico):
    make_run(runs)
    answer = pico("audit")
    assert answer.code == 0 and "norms vary" in answer.out and "0 errors, 1 warning" in answer.err


def test_a_sound_run_is_said_to_be_one(tmp_path, pico):
    run = pythia([0, 100, 200])
    for step, name in run.names.items():
        write(tmp_path / "series" / name, run.content(step))
    answer = pico("audit", tmp_path / "series", "--format", "csv")
    assert (answer.code, answer.out.strip()) == (0, "")
    answer = pico("audit", tmp_path / "series")
    assert (answer.code, answer.out) == (0, "series: nothing found\n")
    assert pico_analyze.audit(tmp_path / "series").empty


def test_several_runs_are_audited_one_after_the_other(series, runs, pico):
    make_run(runs)
    answer = pico("audit", series, "demo")
    assert answer.code == 3
    assert [line.split(":")[0] for line in answer.err.splitlines() if " checks (" in line] == ["series", "demo"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nothing"], 3, "nothing: there is no such path"),
        (["demo@3"], 2, "step 3 does not exist"),
        (["demo", "--format", "tabel"], 2, "did you mean 'table'?"),
    ],
)
def test_what_cannot_be_audited_is_one_sentence(runs, pico, words, code, said):
    make_run(runs)
    answer = pico("audit", *words)
    assert answer.code == code and said in answer.error


def test_a_pattern_tells_the_steps(series, pico):
    assert "is no regular expression" in pico("audit", series, "--step-pattern", "(").error
    answer = pico("audit", series, "--step-pattern", "step(.000)")
    assert answer.code == 0 and "series: 3 checkpoints" in answer.err


def test_a_damaged_step_is_a_finding_and_the_others_are_audited(series, pico):
    (series / "step2000" / "model.safetensors").write_bytes(b"\0" * 100)
    rows = json.loads(pico("audit", series, "--format", "json").out)
    assert {(row["step"], row["check"]) for row in rows} == {
        (1500, "payloads"),
        (2000, "complete"),
        (3750, "documents"),
    }
