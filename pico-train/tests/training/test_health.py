"""What a run does about NaN, what it logs, and what it says about the machine."""

from __future__ import annotations

import json
import math

import pytest
from runs import QUIET, column, losses, poison
from tiny import config
from training_runs import train_until
from worlds import launch

from pico_schema import documents
from pico_train.checkpoint.verify import verify_run
from pico_train.training.peak_flops import peak_of

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


def test_a_line_of_the_log_has_what_health_needs(text, tmp_path):
    assert launch(train_until, config(tmp_path, text, **QUIET)) == [0]
    lines = [json.loads(line) for line in (tmp_path / "tiny" / "metrics.jsonl").read_text().splitlines()]
    for line in lines[:-1]:
        assert {"step", "tokens_seen", "loss", "lr", "grad_norm", "tokens_per_second", "memory_bytes"} <= line.keys()
        assert {"seconds/data", "seconds/compute", "seconds/update"} <= line.keys()
        assert "mfu" not in line  # a CPU's peak is not known, so there is none
    assert "lr" not in lines[-1]  # the last step is measured, not updated


def test_the_manifest_says_what_it_was_trained_with(text, tmp_path):
    assert launch(train_until, config(tmp_path, text, **QUIET)) == [0]
    environment = json.dumps(documents.read_run(tmp_path / "tiny").environment)
    for word in ("torch", "lightning", "python", "transformers"):
        assert word in environment


@pytest.mark.parametrize(
    ("device", "precision", "teraflops"),
    [
        ("NVIDIA A100-SXM4-80GB", "bf16-mixed", 312.0),
        ("NVIDIA A100-SXM4-80GB", "32-true", 156.0),
        ("NVIDIA H100 80GB HBM3", "bf16-true", 989.4),
        ("NVIDIA H100 PCIe", "bf16-mixed", 756.0),
        ("NVIDIA H200", "bf16-mixed", 989.4),
        ("NVIDIA L40S", "bf16-mixed", 362.1),
        ("NVIDIA L4", "bf16-mixed", 121.0),
        ("Tesla T4", "32-true", None),
        ("NVIDIA GH200 480GB", "bf16-mixed", 989.4),
        ("Tesla V100-PCIE-16GB", "16-mixed", 112.0),
        # Names that contain another device's: nothing is known of these.
        ("NVIDIA RTX A4000", "bf16-mixed", None),
        ("NVIDIA T400", "bf16-mixed", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "bf16-mixed", None),
        ("NVIDIA GeForce RTX 3090 Ti", "bf16-mixed", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "bf16-mixed", None),
        ("A device of next year", "bf16-mixed", None),
    ],
)
def test_peaks_are_the_data_sheets_and_absent_where_unknown(device, precision, teraflops):
    assert peak_of(device, precision) == (teraflops * 1e12 if teraflops else None)
