"""The benchmark of a GPU goes all its ways with a model of a few thousand parameters on a CPU, as its help says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.steps import fit, settings

from pico_train.training import forward_backward

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def test_it_measures_both_decoders_and_a_run_with_checkpoints(tmp_path):
    words = ["--device", "cpu", "--tiny", "--sizes", "medium", "--arms", "pico eager,llama eager"]
    line = [sys.executable, str(SCRIPT), *words, "--micro", "2", "--steps", "1"]
    environment = os.environ | {"PICO_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(line, capture_output=True, text=True, env=environment, check=True)
    assert "failed" not in done.stdout, done.stdout
    rows = [line for line in done.stdout.splitlines() if line.startswith("| medium |")]
    assert [row.split(" | ")[1] for row in rows] == ["pico eager", "llama eager"]
    assert "| checkpoint: the loop waits |" in done.stdout


def test_without_a_gpu_it_says_so():
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    done = subprocess.run([sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and "no CUDA device" in done.stderr


def test_the_loss_is_written_for_a_compiler_where_blocks_are_compiled_and_nothing_is_tapped(monkeypatch):
    asked, plain = [], forward_backward.next_token_loss
    monkeypatch.setattr("torch.nn.Module.compile", lambda *_, **__: None)

    def watched(*args, **kwargs):
        asked.append((kwargs["compiled"], kwargs["each_BT"] is not None))
        return plain(*args, **kwargs)

    monkeypatch.setattr(forward_backward, "next_token_loss", watched)
    course = ["checkpoint.captures.at=[1]", "captures.per_row_loss=true", "captures.val.enabled=false"]
    fit(settings(2, *course, "training.compile=on"))
    assert (True, False) in asked and (False, True) in asked and (True, True) not in asked
    asked.clear()
    fit(settings(2, *course, "training.compile=off"))
    assert {compiled for compiled, _ in asked} == {False}
