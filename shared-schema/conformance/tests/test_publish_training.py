"""`pico-train run` with publishing on: what goes wrong before, during and at the end of training."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pico_conformance import Fault, Hub
from pico_schema import read_run

TRAIN = os.environ.get("PICO_TRAIN_PYTHON", sys.executable)
REPO = "tester/tiny"
SETTINGS = {
    "model.d_model": 32,
    "model.d_ff": 64,
    "model.n_layers": 2,
    "data.seq_len": 64,
    "training.batch_size": 8,
    "training.schedule.warmup_steps": 2,
    "publish.repo": REPO,
    "publish.timeout": 5,
    "publish.retry_wait": 0.1,
}
pytestmark = pytest.mark.parametrize("hub_mode", ["lfs"])


def command(out: Path, **settings: object) -> list[str]:
    chosen = SETTINGS | {key.replace("__", "."): value for key, value in settings.items()}
    words = [word for key, value in chosen.items() for word in ("--set", f"{key}={value}")]
    return [str(Path(TRAIN).parent / "pico-train"), "run", "--name", "tiny", "--out", str(out), *words]


def titles(hub: Hub) -> list[str]:
    repository = hub.repository("models", REPO)
    head = repository.ref("refs/heads/tiny")
    return [row["title"] for row in repository.log(head)][::-1][1:] if head else []


@pytest.mark.parametrize(
    ("settings", "token", "said"),
    [
        ({}, None, "there is no token for the Hub: set HF_TOKEN"),
        ({}, "hf_reading", "may only read"),
        ({"publish__repo": "no/such/name"}, "", "is not the name of a repository"),
    ],
)
def test_what_cannot_be_published_is_known_before_training(
    hub: Hub, tmp_path: Path, settings: dict[str, object], token: str | None, said: str
) -> None:
    hub.tokens["hf_reading"] = "read"
    environment = {**os.environ, "HF_TOKEN": token or hub.token}
    if token is None:
        del environment["HF_TOKEN"]
    done = subprocess.run(command(tmp_path, **settings), env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, "one sentence, no traceback"
    assert not list(tmp_path.glob("*/checkpoints/*"))


def test_a_branch_of_another_run_is_known_before_training(hub: Hub, tmp_path: Path) -> None:
    for place, code in (("a", 0), ("b", 2)):
        done = subprocess.run(
            command(tmp_path / place, training__max_steps=4), capture_output=True, text=True, timeout=300
        )
        assert done.returncode == code, done.stderr
    assert "branch tiny of tester/tiny belongs to another run" in done.stderr
    assert titles(hub) == [f"tiny step {step}" for step in (0, 1, 2, 4)]


def test_a_run_whose_loss_explodes_publishes_nothing_more(hub: Hub, tmp_path: Path) -> None:
    """The Hub is away until the loss is infinite; afterwards nothing of the run may appear."""
    hub.faults.add(Fault("POST .*/commit/", status=503, times=100_000))
    unstable = {"training__optimizer__lr": 1e3, "training__optimizer__weight_decay": 1, "training__grad_clip": 0}
    settings = {**unstable, "training__max_steps": 40}
    done = subprocess.run(command(tmp_path, **settings), capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stderr
    assert re.search(
        r"error: .* is (not finite|nan|inf)\b.* nothing was saved over it", done.stderr
    )  # as it overflows here
    assert len(read_run(tmp_path / "tiny").checkpoints) >= 1
    hub.faults.clear()
    words = [str(Path(TRAIN).parent / "pico-train"), "publish", str(tmp_path / "tiny"), "--format", "json"]
    publish = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert publish.returncode == 3 and "nothing was published" in publish.stderr
    assert all(row["state"] == "pending" for row in json.loads(publish.stdout))
    assert titles(hub) == []


def test_a_signal_does_not_wait_for_the_hub_and_the_next_run_goes_on(hub: Hub, tmp_path: Path) -> None:
    hub.faults.add(Fault("POST .*/commit/", status=503, times=100_000))
    with subprocess.Popen(command(tmp_path, training__max_steps=3000), stderr=subprocess.PIPE, text=True) as training:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("tiny/checkpoints/step-00000002/manifest.json")):
            assert time.monotonic() < deadline and training.poll() is None
            time.sleep(0.05)
        training.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        training.communicate(timeout=90)
    assert training.returncode == 143
    assert time.monotonic() - begun < 60
    assert titles(hub) == []
    hub.faults.clear()
    last = read_run(tmp_path / "tiny").checkpoints[-1].step
    done = subprocess.run(command(tmp_path, training__max_steps=last + 2), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    steps = [entry.step for entry in read_run(tmp_path / "tiny").checkpoints]
    assert titles(hub) == [f"tiny step {step}" for step in steps]
