"""Train a very small model and analyze it, through the installed commands only.

By default both commands are those beside this interpreter; the suite across environments names two others.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TRAIN = os.environ.get("PICO_TRAIN_PYTHON", sys.executable)
ANALYZE = os.environ.get("PICO_ANALYZE_PYTHON", sys.executable)
SMALL = ["model.d_model=32", "model.d_ff=64", "model.n_layers=2", "data.seq_len=64", "training.batch_size=8"]


def command(python: str, name: str) -> str:
    return str(Path(python).parent / name)


def call(*words: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


pytestmark = pytest.mark.xdist_group("end-to-end")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of eight steps."""
    out = tmp_path_factory.mktemp("runs")
    settings = [
        word
        for item in [*SMALL, "training.max_steps=8", "training.schedule.warmup_steps=2"]
        for word in ("--set", item)
    ]
    said = call(command(TRAIN, "pico-train"), "run", "--name", "t", "--out", out, *settings, cwd=out)
    assert f"pico-analyze compute cka {out / 't'}" in said
    return out / "t"


def test_cka_lies_between_zero_and_one_and_is_one_at_the_target(run: Path) -> None:
    said = call(command(ANALYZE, "pico-analyze"), "compute", "cka", run, "--format", "json", cwd=run.parent)
    rows = json.loads(said)
    assert {row["step"] for row in rows} == {0, 1, 2, 4, 8}
    assert {row["site"] for row in rows} == {"attn.v", "attn.o", "mlp.down"}
    assert {row["layer"] for row in rows} == {0, 1}
    for row in rows:
        assert row["target_step"] == 8 and row["split"] == "val" and row["data"] == "activations"
        assert -1e-9 <= row["value"] <= 1 + 1e-9
        if row["step"] == 8:
            assert row["value"] == pytest.approx(1.0, abs=1e-9)
    pictures = list((run.parent / "analysis" / "t").glob("*.png"))
    assert pictures and all(path.stat().st_size > 10_000 for path in pictures)
    assert list((run.parent / "analysis" / "t").glob("*.parquet")) and list(
        (run.parent / "analysis" / "t").glob("*.csv")
    )


def test_the_list_names_run_and_steps(run: Path) -> None:
    said = call(command(ANALYZE, "pico-analyze"), "list", run, "--format", "json", cwd=run.parent)
    assert [row["step"] for row in json.loads(said)] == [0, 1, 2, 4, 8]


def test_every_checkpoint_is_sound_and_loads_as_llama_without_custom_code(run: Path) -> None:
    call(command(TRAIN, "pico-train"), "verify", run, cwd=run.parent)
    code = """
import sys, torch
from pathlib import Path
from transformers import AutoModelForCausalLM, AutoTokenizer
from pico_train import load_decoder
for path in sorted(Path(sys.argv[1]).glob("checkpoints/step-*")):
    theirs = AutoModelForCausalLM.from_pretrained(path)
    assert type(theirs).__name__ == "LlamaForCausalLM"
    ids = torch.tensor([AutoTokenizer.from_pretrained(path)("import os\\n").input_ids])
    with torch.no_grad():
        expected, found = theirs(ids).logits, load_decoder(path)(ids)
    # Two orders of the same float32 sums, through two blocks.
    assert (found - expected).abs().max() < 200 * torch.finfo(torch.float32).eps * expected.abs().max()
"""
    call(TRAIN, "-c", code, run, cwd=run.parent)
