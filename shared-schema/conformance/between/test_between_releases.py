"""One package as it was last released, the others as they are here: they still train, verify and analyze together.

Run by `across.py --released`. Only what every release since 2.0.0 knows is used.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

TRAIN, ANALYZE = os.environ["PICO_TRAIN_PYTHON"], os.environ["PICO_ANALYZE_PYTHON"]
SMALL = {
    "model.d_model": 32, "model.d_ff": 64, "model.n_layers": 2, "data.seq_len": 64, "training.batch_size": 8,
    "training.max_steps": 4, "training.schedule.warmup_steps": 1,
}  # fmt: skip


def call(python: str, tool: str, *words: str | Path, cwd: Path) -> str:
    program = [python, "-m", tool] if tool == "pico_schema" else [Path(python).with_name(tool)]
    done = subprocess.run([*program, *map(str, words)], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps."""
    out = tmp_path_factory.mktemp("runs")
    settings = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]
    call(TRAIN, "pico-train", "run", "--name", "t", "--out", out, *settings, cwd=out)
    return out / "t"


def test_what_one_trains_the_other_verifies(run: Path) -> None:
    for python in (TRAIN, ANALYZE):
        for step in (0, 1, 2, 4):
            directory = run / "checkpoints" / f"step-{step:08d}"
            assert "sound" in call(python, "pico_schema", "verify", directory, cwd=run.parent)
    call(TRAIN, "pico-train", "verify", run, cwd=run.parent)


def test_what_one_trains_the_other_lists_and_measures(run: Path) -> None:
    listed = json.loads(call(ANALYZE, "pico-analyze", "list", run, "--format", "json", cwd=run.parent))
    assert [row["step"] for row in listed] == [0, 1, 2, 4]
    rows = json.loads(call(ANALYZE, "pico-analyze", "compute", "cka", run, "--format", "json", cwd=run.parent))
    assert {row["step"] for row in rows} == {0, 1, 2, 4}
    at_target = [row["value"] for row in rows if row["step"] == 4]
    assert at_target and all(value == pytest.approx(1.0, abs=1e-9) for value in at_target)
    weights = call(
        ANALYZE, "pico-analyze", "compute", "norm", run, "--data", "weights", "--format", "json", cwd=run.parent
    )
    assert all(row["value"] > 0 for row in json.loads(weights))
