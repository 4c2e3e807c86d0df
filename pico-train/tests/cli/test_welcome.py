"""Commands that welcome: help in the order of a day's work, completion, hints, advice that works as it stands."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support.tiny import config
from typer.testing import CliRunner

from pico_train.cli import doctor
from pico_train.cli.app import ORDER, app
from pico_train.cli.configured import Words, load
from pico_train.config import layers
from pico_train.config.places import check_places
from pico_train.errors import ConfigError, UsageError


def test_help_has_all_commands_in_the_order_of_a_days_work_with_examples():
    said = CliRunner().invoke(app, ["--help"]).stdout
    listed = [line.split()[0] for line in said.split("Commands:")[1].split("Examples:")[0].splitlines() if line.strip()]
    assert [word for word in listed if word in ORDER] == list(ORDER)
    for group in ((), ("data",), ("suite",), ("config",), ("check",), ("import",)):
        assert "..." not in CliRunner().invoke(app, [*group, "--help"]).stdout.split("Commands:")[1], (
            "nothing is cut off"
        )
    examples = [line.strip() for line in said.split("Examples:")[1].splitlines() if line.strip()]
    assert len(examples) >= 5 and all(line.startswith("pico-train ") for line in examples)
    for line in examples:
        words = shlex.split(line.split("   ")[0])
        assert words[1] in ORDER
        told = CliRunner().invoke(app, [words[1], "--help"]).stdout
        for option in (word for word in words if word.startswith("--")):
            assert option in told, f"{line}: {option}"


def test_completion_knows_presets_settings_and_runs_without_anything_heavy(tmp_path: Path):
    (tmp_path / "runs/m1/checkpoints/step-00000128").mkdir(parents=True)
    (tmp_path / "runs/m1/checkpoints/step-00000128/manifest.json").write_text("{}")
    (tmp_path / "runs/m1/run.json").write_text("{}")
    code = (
        "import sys, json\nfrom pico_train.cli import completion as c\n"
        "print(json.dumps([c.presets('sm'), c.settings('evaluation.ca'), c.settings('evaluation.cadence.e'), "
        "c.settings('train'), list(c.runs('m')), list(c.runs('m1@1')), c.settings('seed=1')]))\n"
        "print([name for name in ('torch', 'numpy', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    found, heavy = done.stdout.splitlines()
    presets, section, fields, top, runs, steps, value = json.loads(found)
    assert presets == ["small"] and heavy == "[]"
    assert section == [["evaluation.cadence.", "settings"]]
    assert [name for name, _ in fields] == ["evaluation.cadence.early=", "evaluation.cadence.every="]
    assert [name for name, _ in top] == ["training."]
    assert (runs, steps, value) == (["m1"], ["m1@128"], [])


def test_the_shell_is_given_them(tmp_path: Path, monkeypatch):
    """By the protocol that the installed completion speaks."""
    monkeypatch.chdir(tmp_path)
    environment = {
        "_PICO_TRAIN_COMPLETE": "complete_bash",
        "COMP_WORDS": "pico-train run --preset ti",
        "COMP_CWORD": "3",
    }
    said = CliRunner().invoke(app, [], env=environment, prog_name="pico-train").stdout
    assert said.split() == ["tiny"]


@pytest.mark.parametrize(
    ("assignment", "meant"),
    [
        ("evaluation.every=3", "evaluation.cadence.every"),
        ("checkpoint.early=3", "checkpoint.weights.early"),
        ("training.lr=1", "training.optimizer.lr"),
        ("lr=1", "training.optimizer.lr"),
        ("model.warmup_steps=1", "training.schedule.warmup_steps"),
    ],
)
def test_a_setting_in_the_wrong_place_is_told_where_it_is(assignment, meant):
    with pytest.raises(ConfigError, match=f"did you mean '{meant}'"):
        layers.load_config(set=[assignment])


@pytest.mark.parametrize(
    ("assignments", "says"),
    [
        (["data.paths=[/nowhere/at/all]"], "data.paths: /nowhere/at/all is not there"),
        (["data.paths=[{here}]", "data.val_paths=['{here}/*.none']"], "data.val_paths: "),
        (["evaluation.tasks=['pairs:/nowhere.jsonl']"], "evaluation.tasks: /nowhere.jsonl is not there"),
        (["evaluation.tasks=['own=babylm:/nowhere']"], "evaluation.tasks: /nowhere is not there"),
        (["out={here}/file/runs"], "is a file, not a directory"),
    ],
)
def test_places_that_are_not_there_are_told_before_anything_slow_begins(tmp_path, assignments, says):
    (tmp_path / "file").write_text("text")
    assignments = [one.format(here=tmp_path) for one in assignments]
    code = (
        "import sys\nfrom pico_train.cli.app import app\n"
        "try: app(sys.argv[1:], standalone_mode=False)\n"
        "except Exception as error: print(error)\n"
        "print([name for name in ('torch', 'numpy', 'transformers') if name in sys.modules])"
    )
    words = ["run", *(word for one in assignments for word in ("--set", one))]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    said, heavy = done.stdout.splitlines()
    assert says in said and heavy == "[]"
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("task", ["validation", "own=validation"])
def test_held_out_rows_as_a_task_are_refused_before_anything_is_made(tmp_path, task):
    from pico_train.run import train

    with pytest.raises(UsageError, match="is measured in any case: leave it out"):
        train(layers.load_config(set=[f"evaluation.tasks=['{task}']", f"out={tmp_path}"]))
    assert not list(tmp_path.iterdir())


def test_what_is_there_or_is_begun_already_is_not_refused(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    made = [f"data.paths=['{tmp_path}/*.txt']", "evaluation.tasks=[pairs, paloma, own=pairs]", f"out={tmp_path}"]
    check_places(layers.load_config(set=made, name="r"))
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "run.json").write_text("{}")
    check_places(layers.load_config(set=["data.paths=[/gone]", f"out={tmp_path}"], name="r"))


def test_text_is_the_shortest_way_to_ones_own_data(tmp_path):
    shown = load(None, None, ["seed=3"], None, None, [f"{tmp_path}/my texts", "b.txt"])
    assert shown.data.source == "text" and shown.data.paths == (f"{tmp_path}/my texts", "b.txt")
    assert (shown.name, shown.seed) == ("my-texts", 3)
    assert load(None, None, None, "other", None, ["x"]).name == "other"
    with pytest.raises(UsageError, match="both say what is trained on"):
        load(None, None, ["data.source=stdlib"], None, None, ["x"])


def test_commands_that_are_advised_mean_what_they_say(tmp_path):
    """The words of the advice, read again, are the same run under the name or length that is advised."""
    file = tmp_path / "my run.yaml"
    file.write_text("training: {max_steps: 30, batch_size: 4}\n")
    said = Words(file, None, ["seed=7", "training.max_steps=40"], [], "some where")
    assert shlex.split(said.again("b")) == [
        *("pico-train", "run", str(file), "--out", "some where"),
        *("--set", "seed=7", "--set", "training.max_steps=40", "--name", "b"),
    ]
    longer = said.again("b", training__max_steps=80)
    assert longer.endswith("--set seed=7 --name b --set training.max_steps=80")
    text = Words(None, "tiny", [], ["my texts"], None).again("c")
    assert shlex.split(text) == ["pico-train", "run", "--preset", "tiny", "--text", "my texts", "--name", "c"]


def test_a_run_of_a_file_is_made_and_made_longer_by_the_advice(text, tmp_path, monkeypatch):
    """From the command to its last words, and those words as a command."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PICO_CACHE", str(tmp_path / "cache"))
    made = config(tmp_path / "runs", text, training__max_steps=4, training__schedule={"name": "constant"})
    (tmp_path / "my.yaml").write_text(layers.to_yaml(made))
    first = CliRunner().invoke(app, ["run", "my.yaml", "--quiet"])
    assert first.exit_code == 0, first.output
    assert "next    pico-analyze compute cka " in first.stdout
    [sample] = [line for line in first.stdout.splitlines() if line.startswith("sample  ")]
    prompt = sample.removeprefix("sample  ").partition("│")[0]
    assert prompt and prompt in " ".join(text.with_name("held_out.txt").read_text().split())
    again = CliRunner().invoke(app, ["run", "my.yaml", "--quiet"])
    advice = {line.partition(": ")[0]: line.partition(": ")[2] for line in again.stdout.splitlines()[1:]}
    longer = shlex.split(advice["To train this one longer"])
    assert longer[0] == "pico-train"
    done = CliRunner().invoke(app, [*longer[1:], "--quiet"])
    assert done.exit_code == 0 and "8 steps in" in done.stdout, done.output
    other = shlex.split(advice["To start another"])
    done = CliRunner().invoke(app, [*other[1:], "--quiet"])
    assert done.exit_code == 0 and (tmp_path / "runs" / "tiny-2" / "run.json").is_file(), done.output


def test_the_doctor_says_what_is_there_and_what_is_missing_for_what(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("PICO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name == "submitit" else object())
    done = CliRunner().invoke(app, ["doctor", "--format", "json"])
    assert done.exit_code == 0, done.output
    rows = {row["what"]: row for row in json.loads(done.stdout)}
    assert {"python", "torch", "cores", "disk here", "cache", "hub", "lm_eval"} <= set(rows)
    assert rows["submitit"]["state"] == "none" and rows["submitit"]["what to do"] == "pip install 'pico-train[slurm]'"
    assert "pico-train suite submit" in rows["submitit"]["found"]
    assert rows["hub"]["state"] == "ok" and "hf_secret" not in done.stdout


def test_the_doctor_finds_what_is_bad(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    done = CliRunner().invoke(app, ["doctor", "--format", "json"])
    rows = {row["what"]: row for row in json.loads(done.stdout)}
    assert done.exit_code == 1 and rows["disk here"]["state"] == rows["cache"]["state"] == "bad"


@pytest.mark.parametrize(("token", "state", "says"), [(None, "ok", "knows you as tester"), ("hf_no", "bad", "401")])
def test_the_doctor_asks_the_hub_only_when_told(hub, tmp_path, monkeypatch, token, state, says):
    monkeypatch.chdir(tmp_path)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    since = hub.log.mark()
    assert CliRunner().invoke(app, ["doctor"]).exit_code == 0 and not hub.log.count("", since)
    rows = json.loads(CliRunner().invoke(app, ["doctor", "--hub", "--format", "json"]).stdout)
    [row] = [row for row in rows if row["what"] == "hub"]
    assert row["state"] == state and says in row["found"]
