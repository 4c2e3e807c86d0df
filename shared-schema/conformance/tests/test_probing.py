"""A run that is probed by pico-analyze while it trains: the installed commands only, beside this interpreter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
SMALL = ["model.d_model=16", "model.d_ff=32", "model.n_layers=1", "data.source=repeats", "data.seq_len=32"]
SMALL += ["model.vocab_size=959", "training.batch_size=4", "training.max_steps=8", "training.schedule.warmup_steps=2"]
SMALL += ["data.val_rows=4", "captures.train.enabled=false", "captures.val.enabled=false"]

pytestmark = pytest.mark.xdist_group("end-to-end")


def call(*words: str | Path, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def train(cwd: Path, *more: str, code: int = 0) -> str:
    settings = [word for item in [*SMALL, *more] for word in ("--set", item)]
    done = call(BIN / "pico-train", "run", "--name", "t", *settings, cwd=cwd, code=code)
    return done.stdout + done.stderr


def test_a_run_is_probed_while_it_trains_and_is_the_same_run(tmp_path: Path) -> None:
    probed, plain = tmp_path / "probed", tmp_path / "plain"
    for folder in (probed, plain):
        folder.mkdir()
    said = train(probed, "evaluation.probes=[induction]")
    assert "probes: " in said and " in analysis/t: rows.parquet" in said
    train(plain)
    for step in (0, 1, 2, 4, 8):
        weights = [
            (folder / f"runs/t/checkpoints/step-{step:08d}/model.safetensors").read_bytes()
            for folder in (probed, plain)
        ]
        assert weights[0] == weights[1], step
    words = ["behave", "runs/t", "--probe", "induction", "--format", "json", "--no-plot"]
    again = call(BIN / "pico-analyze", *words, "--device", "cpu", cwd=probed)
    assert "0 steps probed, 5 already there" in again.stderr, "the table that one writes is the other's"
    rows = json.loads(again.stdout)
    assert {row["step"] for row in rows} == {0, 1, 2, 4, 8}
    assert all(row["value"] is not None for row in rows if row["metric"] == "prefix_matching")


def test_a_probe_that_is_none_ends_before_anything_begins(tmp_path: Path) -> None:
    said = train(tmp_path, "evaluation.probes=[inductoin]", code=2)
    assert said.splitlines()[-1].startswith("error: evaluation.probes: no probe is called 'inductoin'; did you mean")
    assert not (tmp_path / "runs").exists()
