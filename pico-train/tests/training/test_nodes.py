"""Two nodes of two processes, as torchrun and SLURM start them, here on loopback: one node dies, the job goes on.

What a node is, only the environment says: real processes that meet over gloo.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.closeness import assert_close, largest_difference
from support.failing_runs import killed_on_a_node
from support.tiny import config
from support.training_runs import logged, sealed, train_until, weights
from support.worlds import launch, ranks, start

from pico_train.checkpoint.verify import verify_run
from pico_train.errors import ConfigError
from pico_train.training.engine import build_fabric
from pico_train.training.launch import launched_world

EVERY = {"early": 0, "every": 1}
STEPS = 6
RUN = {
    "checkpoint__weights": EVERY,
    "checkpoint__training_state": EVERY,
    "checkpoint__captures": {"early": None, "every": None, "last": False},
    "training__max_steps": STEPS,
    "data__log_digests": True,
}


def torchrun(rank: int, port: int) -> dict[str, str]:
    """The environment of one of two agents' two workers."""
    return {
        "TORCHELASTIC_RUN_ID": "job", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank),
        "LOCAL_RANK": str(rank % 2), "GROUP_RANK": str(rank // 2), "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2",
        "GLOO_SOCKET_IFNAME": "lo",
    }  # fmt: skip


def slurm(rank: int, port: int) -> dict[str, str]:
    """The environment of a task of `srun --nodes=2 --ntasks-per-node=2`."""
    return {
        "SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "train", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "4",
        "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "2", "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank % 2),
        "SLURM_NODEID": str(rank // 2), "SLURM_NODELIST": "127.0.0.1", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo",
    }  # fmt: skip


def on_two_nodes(environment: Callable[[int, int], dict[str, str]], target: Any, *arguments: Any) -> list[Any]:
    """What each of four processes answers, and its exit code."""
    ranks(4)
    from support import worlds

    port = worlds._port
    begun = [start(target, *arguments, environment=environment(rank, port)) for rank in range(4)]
    answers = []
    for process, pipe in begun:
        try:
            said = pipe.recv() if pipe.poll(120) else (False, "it hangs")
        except EOFError:
            said = (False, "gone")
        process.join(60)
        answers.append((*said, process.exitcode))
    return answers


@pytest.fixture(scope="module")
def alone(text, tmp_path_factory):
    """The same training by one process, never disturbed."""
    out = tmp_path_factory.mktemp("alone")
    assert launch(train_until, config(out, text, **RUN)) == [0]
    return out / "tiny"


@pytest.mark.parametrize(
    ("environment", "strategy"),
    [(torchrun, "ddp"), (slurm, "fsdp")],
    ids=["torchrun-ddp", "slurm-fsdp2"],
)
def test_a_node_that_dies_ends_the_job_and_the_job_put_back_goes_on(text, tmp_path, alone, environment, strategy):
    settings = config(tmp_path, text, **RUN, distributed__strategy=strategy)
    run_dir = tmp_path / "tiny"
    answers = on_two_nodes(environment, killed_on_a_node, settings, 4, "1")
    assert [code for *_, code in answers[2:]] == [-signal.SIGKILL] * 2
    for good, said, code in answers[:2]:
        assert good and code == 0, said
        assert said.startswith("4 another process of the run ended or cannot be reached (") and "\n" not in said
    there = sealed(run_dir)
    assert 1 <= len(there) <= 4 and verify_run(run_dir).sound

    assert [answer for _, answer, _ in on_two_nodes(environment, train_until, settings)] == [0] * 4
    assert sealed(run_dir) == list(range(STEPS + 1))
    found, expected = logged(run_dir), logged(alone)
    assert [row["batch_sha256"] for row in found] == [row["batch_sha256"] for row in expected]
    # Sums in another order over a few steps, relative to a loss of 5.7.
    assert_close([row["loss"] for row in found], [row["loss"] for row in expected], factor=16, dtype=torch.float32)
    moved = sum(row.get("lr") or 0.0 for row in expected)
    assert largest_difference(weights(run_dir, STEPS), weights(alone, STEPS)) <= moved / 256


BATCH = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "4", "SLURM_NNODES": "2"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"SLURM_PROCID": "0"}, "this job has 4 tasks (SLURM_NTASKS), and srun has not started this process"),
        ({}, "write `srun pico-train run …` in the job's script, or ask for one task, --ntasks=1"),
        ({"SLURM_PROCID": "0", "SLURM_STEP_ID": "0"}, "without a number for each node: ask for --ntasks-per-node"),
    ],
)
def test_tasks_that_nothing_starts_are_one_sentence(text, tmp_path, monkeypatch, changes, says):
    for name, value in {**BATCH, **changes}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as refused:
        build_fabric(config(tmp_path, text))
    assert says in str(refused.value) and "\n" not in str(refused.value) and refused.value.exit_code == 2


@pytest.mark.parametrize("changes", [{"SLURM_JOB_NAME": "bash"}, {"SLURM_JOB_NAME": "interactive"}])
def test_a_shell_in_an_allocation_trains_by_itself(monkeypatch, changes):
    for name, value in {**BATCH, "SLURM_PROCID": "0", **changes}.items():
        monkeypatch.setenv(name, value)
    assert launched_world() is None


def test_tasks_of_srun_and_workers_of_torchrun_are_counted_by_node(monkeypatch):
    for environment in (torchrun, slurm):
        with monkeypatch.context() as patch:
            for name, value in environment(3, 1234).items():
                patch.setenv(name, value)
            assert launched_world() == (2, 2)
