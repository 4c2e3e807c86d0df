"""When one of several processes is killed, the others end soon, with one sentence, and nothing sealed is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.failing_runs import killed_on_rank_one
from support.tiny import config
from support.training_runs import sealed, train_until
from support.worlds import launch, ranks, start

from pico_train.checkpoint.verify import verify_run
from pico_train.config import layers

EVERY = {"checkpoint__weights": {"early": 0, "every": 1}, "checkpoint__training_state": {"early": 0, "every": 1}}


def answer(process, pipe, patience: float = 60.0) -> str:
    """What a process said before it ended, by itself and in time."""
    assert pipe.poll(patience), "it hangs"
    good, said = pipe.recv()
    process.join(60)
    assert good and process.exitcode == 0, said
    return said


def test_a_process_that_never_joins_is_not_waited_for_without_end(text, tmp_path):
    ranks(2)
    said = answer(*start(killed_on_rank_one, config(tmp_path, text), "never", 2.0, rank=0, world=2))
    assert said.startswith("4 not all processes of the run have joined (")
    assert not (tmp_path / "tiny").exists(), "nothing was begun"


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("when", ["joined", "step"])
def test_a_process_that_is_killed_ends_the_other_with_a_sentence(text, tmp_path, when, strategy):
    settings = config(tmp_path, text, **EVERY, training__max_steps=6, distributed__strategy=strategy)
    started = [start(killed_on_rank_one, settings, when, rank=rank, world=2) for rank in ranks(2)]
    started[1][0].join(60)
    assert started[1][0].exitcode == -signal.SIGKILL
    said = answer(*started[0])
    assert said.startswith("4 another process of the run ended or cannot be reached (")
    assert said.endswith("what was sealed is intact, the same command resumes it") and "\n" not in said
    if when == "step":
        # Shards are written by both, so that the step before may be unfinished where the state is sharded.
        assert sealed(tmp_path / "tiny")[:2] in ([[0, 1]] if strategy == "ddp" else [[0], [0, 1]])
        assert verify_run(tmp_path / "tiny").sound
        assert launch(train_until, settings, world=2) == [0, 0]
        assert sealed(tmp_path / "tiny") == list(range(7))


def test_a_process_that_the_command_started_and_that_is_killed_ends_the_command(text, tmp_path):
    """The command starts its second process itself, and sees that it is gone before they ever met."""
    file = tmp_path / "run.yaml"
    file.write_text(layers.to_yaml(config(tmp_path, text, distributed__devices=2)))
    command = [sys.executable, "-m", "pico_train", "run", str(file)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    run = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children")
    if not children.exists():
        run.kill()
        pytest.skip("this system does not tell whose child a process is")
    deadline = time.monotonic() + 240
    while not (second := children.read_text().split()) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(int(second[0]), signal.SIGKILL)
    _, said = run.communicate(timeout=240)
    assert run.returncode == 4
    assert [line for line in said.splitlines() if line.startswith("error:")] == [
        "error: process 1 of the run was ended by signal 9: it ends as a whole"
    ]
