"""Runs of any length: the shortest trains; a longer one keeps its warm-up and says where its learning rate bends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.tiny import config
from support.training_runs import train_until
from support.worlds import launch

from pico_schema import documents
from pico_train.checkpoint import metrics_log
from pico_train.config import layers
from pico_train.errors import ConfigError
from pico_train.run import train
from pico_train.schedules import learning_rate


@pytest.mark.parametrize("steps", [1, 2, 8])
def test_the_shortest_runs_train_at_the_peak_and_keep_their_checkpoints(tmp_path: Path, text: Path, steps: int) -> None:
    made = config(tmp_path, text, training__max_steps=steps, training__schedule={})
    summary = train(made)
    assert summary is not None and summary.steps == steps
    rows = metrics_log.read(tmp_path / "tiny" / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(steps + 1))
    assert max(row["lr"] for row in rows[:-1]) == pytest.approx(3e-3)  # the last step is measured, not updated
    assert [step for step, _ in documents.checkpoint_dirs(tmp_path / "tiny")][-1] == steps
    assert "val_loss" in rows[-1]


def test_a_longer_run_keeps_its_warm_up_and_says_where_its_rate_bends(tmp_path: Path, text: Path) -> None:
    settings = {"training__schedule": {"name": "cosine"}, "checkpoint__captures": {"early": None, "every": None}}
    train(config(tmp_path, text, **settings))
    run_dir = tmp_path / "tiny"
    recorded = documents.read_run(run_dir).config["training"]["schedule"]
    assert (recorded["warmup"], recorded["warmup_steps"]) == (None, 1)  # a tenth of fourteen

    # As a version before this one recorded it: without the part of the run.
    content = json.loads((run_dir / "run.json").read_bytes())
    del content["config"]["training"]["schedule"]["warmup"]
    (run_dir / "run.json").write_text(json.dumps(content))

    with pytest.warns(
        RuntimeWarning, match=r"the learning rate bends at step 14: training\.max_steps was 14 and is now 40"
    ):
        train(config(tmp_path, text, training__max_steps=40, **settings))
    run = documents.read_run(run_dir)
    assert [change.field for change in run.changes] == ["training.max_steps"]
    assert run.config["training"]["schedule"]["warmup_steps"] == 1  # not a tenth of forty
    rows = {row["step"]: row for row in metrics_log.read(run_dir / "metrics.jsonl")}
    assert [step for step, row in rows.items() if "note" in row] == [14]
    new = learning_rate(14, name="cosine", peak=3e-3, max_steps=40, warmup_steps=1)
    assert rows[14]["lr"] == pytest.approx(new)
    assert f"made at {new:.3g}, where the schedule had come to 0" in rows[14]["note"]


def test_a_run_that_goes_on_as_it_was_says_nothing_of_its_rate(
    tmp_path: Path, text: Path, recwarn: pytest.WarningsRecorder
) -> None:
    settings = {"training__schedule": {"name": "constant"}}
    train(config(tmp_path, text, **settings))
    train(config(tmp_path, text, training__max_steps=16, **settings))
    assert [str(item.message) for item in recwarn if "learning rate" in str(item.message)] == []
    assert all("note" not in row for row in metrics_log.read(tmp_path / "tiny" / "metrics.jsonl"))


def test_a_run_that_has_come_further_is_not_recorded_as_a_shorter_one(tmp_path: Path, text: Path) -> None:
    train(config(tmp_path, text))
    record = tmp_path / "tiny" / "run.json"
    before = record.read_bytes()
    for steps in (1, 13):
        for override in (False, True):
            with pytest.raises(
                ConfigError, match=rf"training\.max_steps={steps} is less than the 14 steps that .* tiny"
            ):
                train(config(tmp_path, text, training__max_steps=steps), override=override)
    assert record.read_bytes() == before
    assert documents.read_run(tmp_path / "tiny").config["training"]["max_steps"] == 14


def test_a_run_that_was_stopped_is_not_cut_behind_where_it_is(tmp_path: Path, text: Path) -> None:
    made = config(tmp_path, text)
    assert launch(train_until, made, 8) == [143]
    there = [step for step, _ in documents.checkpoint_dirs(tmp_path / "tiny")][-1]
    before = (tmp_path / "tiny" / "run.json").read_bytes()
    with pytest.raises(ConfigError, match=f"less than the {there} steps"):
        train(config(tmp_path, text, training__max_steps=there - 1))
    assert (tmp_path / "tiny" / "run.json").read_bytes() == before
    summary = train(config(tmp_path, text, training__max_steps=there))  # it may end where it is
    assert summary is not None and summary.was_finished
    run = documents.read_run(tmp_path / "tiny")
    assert [(change.field, change.step, change.before, change.after) for change in run.changes] == [
        ("training.max_steps", there, 14, there)
    ]


def test_a_finished_run_records_no_setting_that_nothing_was_trained_under(tmp_path: Path, text: Path) -> None:
    train(config(tmp_path, text))
    run_dir = tmp_path / "tiny"
    before = documents.read_run(run_dir)
    rows = (run_dir / "validation.parquet").read_bytes()
    changed = config(tmp_path, text, training__optimizer={"lr": 0.5}, data__val_rows=3, monitoring__log_every=7)
    with pytest.warns(RuntimeWarning, match=r"is finished: .*training\.optimizer\.lr=0\.5.* is not recorded"):
        summary = train(changed, override=True)
    assert summary is not None and summary.was_finished
    after = documents.read_run(run_dir)
    assert [change.field for change in after.changes] == ["monitoring.log_every"]
    assert after.config == before.config | {"monitoring": before.config["monitoring"] | {"log_every": 7}}
    assert (after.data, after.validation) == (before.data, before.validation)
    assert (run_dir / "validation.parquet").read_bytes() == rows
    assert layers.load_config(run_dir / "config.yaml").model_dump(mode="json") == after.config, "both tell the same"
