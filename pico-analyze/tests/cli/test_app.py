import contextlib
import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from synthetic import SPEC, make_run

from pico_analyze.table.columns import CORE
from pico_schema import layout


def test_cka_of_the_newest_run_needs_no_argument(runs, pico):
    make_run(runs)
    answer = pico("compute", "cka")
    assert answer.code == 0
    assert "cka · simple attn.v · val activations · run demo against step 8" in answer.out
    assert "layer 1" in answer.out and "1.0000" in answer.out
    directory = Path("analysis/demo")
    written = {path.name for path in directory.iterdir() if path.is_file()}
    assert {"rows.parquet", "rows.csv", "cka-simple-val-activations-to-8.png"} <= written
    assert (directory / "cka-simple-val-activations-to-8.png").read_bytes()[:4] == b"\x89PNG"
    assert "30 rows" in answer.err and str(directory) in answer.err
    assert "demo: a run of Pico" in answer.err


def test_json_is_a_list_of_row_objects_and_csv_has_the_same_rows(run_dir, pico, tmp_path):
    out = ("--out", tmp_path)
    rows = json.loads(pico("compute", "cka", run_dir, "--format", "json", "--no-plot", *out).out)
    assert len(rows) == 30
    assert list(rows[0])[:16] == list(CORE)
    assert all(0 <= row["value"] <= 1 + 1e-9 for row in rows)
    assert all(row["value"] == pytest.approx(1) for row in rows if row["step"] == row["target_step"])
    assert rows[0]["head"] is None and rows[0]["reason"] is None and isinstance(rows[0]["layer"], int)
    table = list(csv.DictReader(io.StringIO(pico("compute", "cka", run_dir, "--format", "csv", *out).out)))
    assert [row["step"] for row in table] == [str(row["step"]) for row in rows]
    assert not list((tmp_path / "demo").glob("x.png"))


def test_infinity_and_undefined_values_survive_json(pico, runs):
    make_run(runs, poison=(2, "layers.1.attn.v"))
    rows = json.loads(pico("compute", "cka", "--format", "json", "--no-plot").out)
    bad = [row for row in rows if row["value"] is None]
    assert len(bad) == 1 and "not finite" in bad[0]["reason"]
    from pico_analyze.output.text import as_json

    (record,) = json.loads(as_json([{"a": float("inf"), "b": float("nan"), "c": "é"}]))
    assert record == {"a": float("inf"), "b": None, "c": "é"}


def test_steps_layers_sites_and_target_are_chosen(run_dir, pico, tmp_path):
    arguments = ["--steps", "0,2-4", "--layers", "1", "--site", "attn.o", "--target", "first", "--split", "val"]
    answer = pico("compute", "cka", run_dir, *arguments, "--format", "json", "--no-plot", "--out", tmp_path)
    rows = json.loads(answer.out)
    assert [(row["step"], row["layer"], row["site"], row["target_step"]) for row in rows] == [
        (step, 1, "attn.o", 0) for step in (0, 2, 4)
    ]
    assert not list((tmp_path / "demo").glob("*.png"))


def test_several_metrics_in_one_pass_with_their_parameters(run_dir, pico, tmp_path):
    answer = pico(
        *("compute", "cka", "norm", "condition_number", run_dir, "--component", "ov_circuit", "--no-heads"),
        *("-p", "norm.kind=nuclear", "--component-param", "form=head", "--data", "weights", "--no-plot"),
        *("--format", "json", "--out", tmp_path),
    )
    assert answer.code == 2
    assert "metric 'cka' is not defined for weights" in answer.error
    answer = pico(
        *("compute", "norm", "condition_number", run_dir, "--component", "ov_circuit", "--no-heads"),
        *("-p", "kind=nuclear", "--component-param", "form=head", "--no-plot", "--format", "json", "--out", tmp_path),
    )
    rows = json.loads(answer.out)
    assert len(rows) == 2 * 5 * 2
    norms = [json.loads(row["params"]) for row in rows if row["metric"] == "norm"]
    assert all(params["kind"] == "nuclear" and params["form"] == "head" for params in norms)


def test_metrics_of_different_data_take_what_suits_them(run_dir, pico, tmp_path):
    rows = json.loads(pico("compute", "cka", "per", run_dir, "--format", "json", "--no-plot", "--out", tmp_path).out)
    assert {(row["metric"], row["data"]) for row in rows} == {("cka", "activations"), ("per", "weights")}


def test_biased_cka_on_few_samples_is_said_once_with_the_debiased_value_beside_it(runs, pico):
    make_run(runs, spec=SPEC.model_copy(update={"d_model": 32}))
    answer = pico("compute", "cka", "--no-plot")
    assert answer.err.count("n < 5d") == 1
    assert "(in brackets: debiased)" in answer.out


def test_half_written_checkpoints_are_left_out_with_a_warning_that_names_them(runs, pico):
    run = make_run(runs)
    (run / layout.checkpoint_dir(4) / layout.MANIFEST).unlink()
    answer = pico("compute", "cka", "--no-plot")
    assert answer.code == 0
    assert "warning: demo: step-00000004 is left out: incomplete: it has no manifest.json" in answer.err
    listed = pico("list").out
    assert "4 checkpoints, 1 incomplete" in listed and "no: step-00000004: incomplete" in listed


def test_steps_without_captures_are_said_at_the_end(runs, pico):
    make_run(runs, lacking={2: ("val",)})
    answer = pico("compute", "cka", "--no-plot")
    assert "skipped: step 2 of run 'demo' has no val activations (6 matrices)" in answer.err
    assert "24 rows" in answer.err


def test_list_shows_runs_and_checkpoints(runs, pico):
    make_run(runs, "a")
    make_run(runs, "b", steps=(0,))
    text = pico("list").out
    assert "a (pico, runs/a): 5 checkpoints" in text and "b (pico, runs/b): 1 checkpoint" in text
    assert "train, val: attn.v attn.o mlp.down" in text
    records = json.loads(pico("list", "b", "--format", "json").out)
    assert records[0]["step"] == 0 and records[0]["complete"] is True
    assert records[0]["captures"]["val"]["n_samples"] == 96
    assert records[0]["size"] > 1000 and records[0]["loss"] == 4.0
    assert pico("list", "--format", "csv").out.count("\n") == 7


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_damaged_results_are_left_out_of_a_listing_and_named(runs, pico, form):
    run = make_run(runs)
    path = run / layout.evaluation_file(4)
    path.parent.mkdir(exist_ok=True)
    path.write_text('{"step": 123456789012345678901234567890}')
    answer = pico("list", "--format", form)
    assert answer.code == 0 and "attn.v" in answer.out
    assert "warning: results of evaluation are left out: " in answer.err and layout.evaluation_file(4) in answer.err


def test_help_has_all_commands_in_the_order_of_a_days_work_with_examples(pico):
    from pico_analyze.cli.app import ORDER

    _, listed = pico("--help").out.split("Commands:")
    listed, examples = listed.split("Examples:")
    words = [line.split()[0] for line in listed.splitlines() if line.strip()]
    assert [word for word in words if word in ORDER] == list(ORDER) and "..." not in listed
    lines = [line.strip().split("   ")[0] for line in examples.splitlines() if line.strip()]
    assert len(lines) >= 5
    for line in lines:
        name, command, *rest = line.split()
        assert name == "pico-analyze" and command in ORDER
        told = pico(command, "--help").out
        assert all(word in told for word in rest if word.startswith("--"))


def test_metrics_and_components_have_pages(pico):
    everything = json.loads(pico("metrics", "--format", "json").out)
    for record in everything:
        text = pico("metrics", record["name"]).out
        for part in ("definition", "range", "best value", "cost", "reference", "data"):
            assert part in text, (record["name"], part)
    assert "ov_circuit" in pico("components").out
    assert "form" in pico("components", "ov_circuit").out
    assert pico("metrics").out.count("\n") == len(everything) + 1


def test_dynamics_gives_convergence_and_correlation(runs, pico):
    make_run(runs)
    rows = json.loads(pico("dynamics", "cka", "--tau", "0.9", "--evaluation", "val_loss", "--format", "json").out)
    assert len(rows) == 6
    assert all(row["convergence_step"] == 8 and row["n_shared"] == 5 and 0 < row["r2"] <= 1 for row in rows)
    text = pico("dynamics", "cka").out
    assert "settles at" in text and "R²" not in text
    assert Path("analysis/demo/dynamics.csv").is_file()


def test_pairs_draw_heatmaps(runs, pico):
    make_run(runs)
    assert "step \\ step" in pico("compute", "cka", "--pairs", "steps").out
    assert "layer 1" in pico("compute", "cka", "--pairs", "layers").out
    names = {path.name for path in Path("analysis/demo").glob("*.png")}
    assert names == {
        "cka-simple-val-activations-steps-to-several.png",
        "cka-simple-val-activations-layers-to-several.png",
    }


def test_runs_are_compared_with_each_other(runs, pico):
    for seed in (1, 2):
        make_run(runs, f"seed{seed}", seed=seed)
    rows = json.loads(pico("compute", "cka", "seed1", "seed2", "--between-runs", "--format", "json").out)
    assert {(row["run"], row["target_run"]) for row in rows} == {("seed1", "seed2")}
    rows = json.loads(pico("compute", "cka", "seed1", "--target", "runs/seed2@last", "--format", "json").out)
    assert {row["target_step"] for row in rows} == {8}


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["compute", "ckaa"], 2, "no metric is called 'ckaa'; did you mean 'cka'?"),
        (["compute"], 2, "METRIC"),
        (["compute", "runs/demo"], 2, "name a metric, such as cka"),
        (["compute", "cka", "runs/dmo"], 3, "runs/dmo: there is no such path; did you mean 'demo'?"),
        (["compute", "cka", "runs"], 3, "it contains the runs demo: name one"),
        (["compute", "cka", "--steps", "3"], 2, "step 3 does not exist: run 'demo' has steps 0, 1, 2, 4 and 8"),
        (["compute", "cka", "--layers", "14"], 2, "layer 14 does not exist: this model has layers 0 to 1"),
        (["compute", "cka", "--site", "attn.vv"], 2, "'attn.vv' is not a site; did you mean 'attn.v'"),
        (["compute", "cka", "--site", "attn.q"], 2, "there are attn.v, attn.o, mlp.down"),
        (["compute", "cka", "-c", "simpel"], 2, "no component is called 'simpel'; did you mean 'simple'?"),
        (["compute", "cka", "--data", "activation"], 2, "did you mean 'activations'?"),
        (["compute", "cka", "--split", "valid"], 2, "split 'valid' does not exist; did you mean 'val'?"),
        (["compute", "cka", "--target", "5"], 2, "target step 5 does not exist"),
        (["compute", "cka", "--split", "train"], 3, "are of different samples"),
        (["compute", "cka", "-p", "kernel"], 2, "is not of the form k=v"),
        (["compute", "cka", "-p", "kernel=rbff"], 2, "did you mean 'rbf'?"),
        (["compute", "cka", "-p", "kernl=rbf"], 2, "no metric here has a parameter 'kernl'; did you mean 'kernel'?"),
        (["compute", "cka", "--pairs", "step"], 2, "step"),
        (["compute", "cka", "--jobs", "0"], 2, "jobs"),
        (["compute", "cka", "--between-runs"], 2, "at least two"),
        (["list", "nothing"], 3, "nothing: there is no such path"),
        (["metrics", "cca"], 2, "no metric is called 'cca'; did you mean"),
        (["components", "ov"], 2, "no component is called 'ov'"),
        (["dynamics", "cka", "--evaluation", "loss"], 3, "has no evaluation 'loss'"),
        (["run", "nothing.yaml"], 2, "nothing.yaml: cannot be read"),
        (["compte"], 2, "No such command"),
        (["compute", "cka", "--nothing"], 2, "--nothing"),
    ],
)
def test_bad_input_is_one_sentence_and_the_right_exit_code(runs, pico, arguments, code, says):
    make_run(runs)
    answer = pico(*arguments)
    assert says in answer.error
    assert answer.code == code
    assert len(answer.err.strip().splitlines()) == 1


def test_no_command_at_all_shows_the_help(pico):
    answer = pico()
    assert answer.code == 2 and "Commands:" in answer.err and "error:" not in answer.err


def test_wandb_offline_says_where_it_is(runs, pico):
    pytest.importorskip("wandb")
    make_run(runs)
    answer = pico("compute", "cka", "--wandb", "offline", "--wandb-project", "team/project")
    assert answer.code == 0
    assert "logged to Weights & Biases, offline, in" in answer.err
    assert list(Path("wandb").glob("offline-run-*"))


def test_no_run_and_a_run_with_one_checkpoint(runs, pico):
    assert "no run under" in pico("compute", "cka").error
    assert pico("compute", "cka").code == 3
    assert "no run under" in pico("list").error
    make_run(runs, steps=(0,))
    answer = pico("compute", "cka")
    assert answer.code == 3
    assert "run 'demo' has one checkpoint (step 0): a comparison needs two" in answer.error
    assert pico("compute", "per", "--no-plot").code == 0


def test_a_step_that_is_half_written_is_not_just_missing(runs, pico):
    run = make_run(runs)
    (run / layout.checkpoint_dir(4) / layout.MANIFEST).unlink()
    answer = pico("compute", "cka", "--steps", "4")
    assert answer.code == 3
    assert "step 4 of run 'demo' cannot be used: step-00000004: incomplete: it has no manifest.json" in answer.error


def test_a_run_whose_checkpoints_are_all_incomplete(runs, pico):
    run = make_run(runs, steps=(0, 1))
    for step in (0, 1):
        (run / layout.checkpoint_dir(step) / layout.MANIFEST).unlink()
    answer = pico("compute", "cka")
    assert answer.code == 3
    assert "run 'demo' has no complete checkpoint (2 incomplete)" in answer.error


def test_a_damaged_run_manifest_ends_in_one_sentence(runs, pico):
    run = make_run(runs)
    (run / layout.RUN_MANIFEST).write_text("{")
    answer = pico("compute", "cka", run)
    assert answer.code == 3 and "not valid JSON" in answer.error


def test_an_interruption_keeps_the_rows_and_says_so(runs, pico, monkeypatch):
    from pico_analyze.cli.console import Console

    make_run(runs)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Console, "advanced", stop)
    answer = pico("compute", "cka", "--threads", "1")
    assert answer.code == 130
    assert "what is done is kept, and the same command goes on from there" in answer.error
    monkeypatch.undo()


def test_progress_with_the_time_left_is_shown_on_a_terminal_only(runs):
    run = make_run(runs)
    program = Path(sys.executable).with_name("pico-analyze")
    command = [program, "compute", "cka", run, "--no-plot", "--fresh"]
    terminal, end = os.openpty()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=end) as process:
        os.close(end)
        shown = b""
        with contextlib.suppress(OSError):  # what Linux raises when the other end is closed
            while block := os.read(terminal, 4096):
                shown += block
    os.close(terminal)
    assert process.returncode == 0
    assert b"measuring" in shown and b"/30" in shown and b"left" in shown
    piped = subprocess.run(command, capture_output=True, check=True)
    assert b"measuring" not in piped.stderr + piped.stdout


def test_a_bug_is_one_sentence_too_and_a_full_disk_is_a_storage_error(runs, pico, monkeypatch):
    from pico_analyze.engine import pipeline

    make_run(runs)
    monkeypatch.delenv("PICO_DEBUG", raising=False)
    for raised, code, says in (
        (RuntimeError("boom"), 1, "error: RuntimeError: boom (set PICO_DEBUG=1 for the traceback)"),
        (OSError(28, "No space left on device", "x.png"), 4, "error: x.png: No space left on device: check the disk"),
    ):

        def fail(*_, raised=raised):
            raise raised

        monkeypatch.setattr(pipeline, "analyze", fail)
        answer = pico("compute", "cka")
        assert (answer.code, answer.error) == (code, says)


def test_an_analysis_that_was_killed_goes_on_where_it_stopped(runs, pico):
    run = make_run(runs)
    arguments = ["compute", "cka", str(run), "--bootstrap", "1000", "--threads", "1", "--no-plot"]
    program = Path(sys.executable).with_name("pico-analyze")
    parts = Path("analysis/demo/.parts")
    with subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not (parts.is_dir() and list(parts.glob("*.parquet"))):
            time.sleep(0.02)
        process.kill()
    assert process.returncode == -9
    answer = pico(*arguments)
    told = re.search(r"30 rows \((\d+) new, (\d+) already there", answer.err)
    assert told and int(told[1]) > 0 and int(told[2]) > 0


def test_help_imports_nothing_heavy(tmp_path):
    """How long it takes is `benchmarks/bench_cli.py`'s to say."""
    program = Path(sys.executable).with_name("pico-analyze")
    done = subprocess.run([program, "--help"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "compute" in done.stdout
    code = (
        "import sys, pico_analyze.cli.app, pico_analyze; "
        "print([m for m in ('numpy', 'pandas', 'matplotlib', 'scipy', 'pyarrow', 'torch', 'huggingface_hub') "
        "if m in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"


def test_rows_come_without_torch(run_dir, tmp_path):
    program = Path(sys.executable).with_name("pico-analyze")
    code = "import sys; sys.argv = sys.argv[1:]; from pico_analyze.cli.app import main\ntry:\n main()\n"
    code += "except SystemExit:\n print('torch' in sys.modules, file=sys.stderr)"
    command = [sys.executable, "-c", code, program, "compute", "cka", run_dir, "--format", "json", "--no-plot"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert len(json.loads(done.stdout)) == 30
    assert done.stderr.strip().endswith("False")


def test_rows_do_not_depend_on_where_the_run_lies(runs, pico, tmp_path):
    run = make_run(runs)
    moved = tmp_path / "moved"
    first = json.loads(pico("compute", "cka", run, "--format", "json", "--no-plot").out)
    shutil.move(run, moved)
    again = pico("compute", "cka", moved, "--format", "json", "--no-plot")
    assert json.loads(again.out) == first
    assert "30 already there" in again.err


def test_a_share_of_the_work_shows_no_table_that_looks_like_the_whole(runs, pico):
    make_run(runs)
    for index in (1, 2):
        answer = pico("compute", "cka", "--shard", f"{index}/2")
        assert (answer.code, answer.out) == (0, "")
        assert (
            f"shard {index}/2: 15 rows (15 new" in answer.err and "without --shard brings them together" in answer.err
        )
    assert not list(Path("analysis").rglob("*.png")) and not list(Path("analysis").rglob("rows.*"))
    whole = pico("compute", "cka")
    assert whole.code == 0 and "30 rows (0 new, 30 already there" in whole.err and "layer 1" in whole.out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--format", "tabel"), "--format 'tabel' is none: there are table, json, csv; did you mean 'table'?"),
        (("--pairs", "step"), "--pairs 'step' is none: there are target, steps, layers; did you mean 'steps'?"),
        (("--format", "xml"), "--format 'xml' is none: there are table, json, csv"),
    ],
)
def test_a_misspelt_choice_is_told_the_nearest(pico, words, says):
    answer = pico("compute", "cka", *words)
    assert (answer.code, answer.err.strip()) == (2, f"error: {says}")
