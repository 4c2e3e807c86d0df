"""Runs of any length: the shortest trains; a longer one keeps its warm-up and says where its learning rate bends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.tiny import config

from pico_schema import documents
from pico_train.checkpoint import metrics_log
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
