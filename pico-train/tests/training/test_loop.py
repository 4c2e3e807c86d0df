"""What the loop does with a loss, a gradient or a loss scale that is not finite."""

from __future__ import annotations

import math

from support.failing_runs import QUIET, column, losses, poison
from support.tiny import config
from support.training_runs import train_until
from support.worlds import launch

from pico_schema import documents
from pico_train.checkpoint.verify import verify_run

EVERY_THREE = {name: value for name, value in QUIET.items() if "evaluation" in name or "captures" in name}


def test_nan_stops_the_run_naming_step_batch_and_last_good_checkpoint(text, tmp_path):
    (ending,) = launch(poison, config(tmp_path, text, **EVERY_THREE), (6,))
    assert ending.startswith("1 gradient norm is nan at step 6 (batch 6, rows ")
    assert "the last good checkpoint is step 3" in ending
    run_dir = tmp_path / "tiny"
    # Step 6 was due for a checkpoint: the weights were still good, the step's measurements were not.
    assert [entry.step for entry in documents.read_run(run_dir).checkpoints] == [0, 3]
    assert verify_run(run_dir).sound
    assert all(math.isfinite(loss) for loss in losses(run_dir))


def test_after_nan_the_run_can_go_on(text, tmp_path):
    settings = config(tmp_path, text, **EVERY_THREE)
    launch(poison, settings, (6,))
    assert launch(train_until, settings) == [0]
    undisturbed = config(tmp_path / "other", text, **EVERY_THREE)
    assert launch(train_until, undisturbed) == [0]
    assert losses(tmp_path / "tiny") == losses(tmp_path / "other" / "tiny")


def test_nan_in_one_process_stops_all(text, tmp_path):
    settings = config(tmp_path, text, **EVERY_THREE, distributed__strategy="ddp")
    endings = launch(poison, settings, (4,), "loss", 1, world=2)
    assert all(ending.startswith("1 loss is nan at step 4") for ending in endings)


def test_skipping_leaves_out_the_update_and_counts(text, tmp_path):
    skip = {"training__on_nonfinite": "skip", "training__max_nonfinite": 3}
    assert launch(poison, config(tmp_path, text, **QUIET, **skip), (4, 5)) == [""]
    run_dir = tmp_path / "tiny"
    assert [step for step, skipped in enumerate(column(run_dir, "skipped")) if skipped] == [4, 5]
    assert all(math.isfinite(loss) for loss in losses(run_dir))


def test_too_many_skipped_in_a_row_stop_the_run(text, tmp_path):
    skip = {"training__on_nonfinite": "skip", "training__max_nonfinite": 3}
    (ending,) = launch(poison, config(tmp_path, text, **EVERY_THREE, **skip), (4, 5, 7, 8, 9))
    assert ending.startswith("1 gradient norm is nan at step 9") and "3 in a row" in ending
