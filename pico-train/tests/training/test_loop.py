"""What the loop does with a loss, a gradient or a loss scale that is not finite."""

from __future__ import annotations

import math
import re
from functools import partial

import pytest
import torch
from safetensors.torch import load_file
from support.failing_runs import QUIET, break_update, column, losses, poison
from support.tiny import config
from support.training_runs import train_until
from support.worlds import launch

from pico_schema import documents, layout
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


def sealed_and_finite(run_dir):
    """The sealed steps; every tensor of each is finite, read as any reader would."""
    steps = []
    for entry in documents.read_run(run_dir).checkpoints:
        directory = run_dir / layout.checkpoint_dir(entry.step)
        tensors = [load_file(path) for path in sorted(directory.rglob("*.safetensors"))]
        state = torch.load(directory / "training_state/state.ckpt", weights_only=True)["optimizer"]["state"]
        for found in [*tensors, *state.values()]:
            assert all(tensor.isfinite().all() for tensor in found.values()), entry.step
        steps.append(entry.step)
    assert verify_run(run_dir).sound
    return steps


EVERY_STEP = EVERY_THREE | {
    "model__vocab_size": 304,
    "checkpoint__weights": {"early": 0, "every": 1},
    "checkpoint__training_state": {"early": 0, "every": 1},
}


@pytest.mark.parametrize("mode", ["stop", "skip"])
@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("weight", r"loss is nan at step 4 \(batch 4, rows"),
        ("unused", r"model\.embed_tokens\.weight is not finite at step 4; "),
        ("state", r"training state\.optimizer\.state\.\d+\.exp_avg_sq is not finite at step 4; "),
    ],
)
def test_an_update_that_breaks_something_ends_the_run_and_the_last_finite_step_is_kept(
    text, tmp_path, mode, where, says
):
    (ending,) = launch(break_update, config(tmp_path, text, **EVERY_STEP, training__on_nonfinite=mode), 3, where)
    assert re.match(f"1 {says}", ending)
    if where == "weight":
        assert "since model.norm.weight is not finite: an update broke the weights" in ending
    assert "the last good checkpoint is step 3, nothing was saved over it: lower training.optimizer.lr" in ending
    assert sealed_and_finite(tmp_path / "tiny") == [0, 1, 2, 3]


@pytest.mark.parametrize("mode", ["stop", "skip"])
@pytest.mark.parametrize("where", ["weight", "state"])
def test_a_signal_between_a_bad_update_and_the_next_loss_seals_nothing(text, tmp_path, mode, where):
    settings = config(tmp_path, text, **EVERY_THREE, training__on_nonfinite=mode)
    (ending,) = launch(partial(break_update, stopping=True), settings, 4, where)
    assert ending.startswith("1 model.norm.weight is not finite" if where == "weight" else "1 training state.")
    assert " at step 5; the last good checkpoint is step 3, nothing was saved over it" in ending
    assert sealed_and_finite(tmp_path / "tiny") == [0, 3]


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_what_one_process_finds_stops_all_before_anything_is_written(text, tmp_path, strategy):
    settings = config(tmp_path, text, **EVERY_THREE, model__vocab_size=304, distributed__strategy=strategy)
    where = "state" if strategy == "fsdp" else "unused"
    endings = launch(partial(break_update, rank=1 if strategy == "fsdp" else 0), settings, 4, where, world=2)
    assert len(set(endings)) == 1 and "is not finite at step 6; the last good checkpoint is step 3" in endings[0]
    assert [entry.step for entry in documents.read_run(tmp_path / "tiny").checkpoints] == [0, 3]
    assert not list((tmp_path / "tiny" / layout.CHECKPOINTS).glob(".*"))


def test_the_last_step_is_not_sealed_with_a_weight_that_is_not_finite(text, tmp_path):
    settings = config(tmp_path, text, **QUIET, model__vocab_size=304, training__max_steps=5)
    (ending,) = launch(break_update, settings, 4, "unused")
    assert ending == (
        "1 model.embed_tokens.weight is not finite at step 5; there is no checkpoint yet, nothing was saved over it: "
        "lower training.optimizer.lr"
    )
    assert documents.read_run(tmp_path / "tiny").checkpoints == ()


def test_a_step_whose_loss_is_not_finite_is_not_saved_and_the_last_one_ends_the_run(text, tmp_path):
    skip = {"training__on_nonfinite": "skip", "training__max_nonfinite": 3, "training__max_steps": 6}
    (ending,) = launch(poison, config(tmp_path, text, **EVERY_THREE, **skip), (3, 6), "loss")
    assert ending.startswith("1 loss is nan at step 6 (batch 6, rows ") and ", the last; " in ending
    assert "the last good checkpoint is step 0, " in ending
    assert sealed_and_finite(tmp_path / "tiny") == [0]
    assert [step for step, skipped in enumerate(column(tmp_path / "tiny", "skipped")) if skipped] == [3]


def test_checkpoints_among_bad_steps_are_not_called_good(text, tmp_path):
    """A gradient that is not finite leaves weights and loss alone: the steps are saved, and good are those before."""
    skip = {"training__on_nonfinite": "skip", "training__max_nonfinite": 3}
    (ending,) = launch(poison, config(tmp_path, text, **EVERY_THREE, **skip), (5, 6, 7))
    assert ending.startswith("1 gradient norm is nan at step 7") and "the last good checkpoint is step 3," in ending
    assert sealed_and_finite(tmp_path / "tiny") == [0, 3, 6]
    metrics = documents.read_checkpoint(tmp_path / "tiny" / layout.checkpoint_dir(6)).metrics
    assert metrics.keys() == {"train_loss"}, "a norm that is not finite is not among the numbers of a checkpoint"
