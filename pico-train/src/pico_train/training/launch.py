"""Several processes as one run: started, connected, and ended together.

Fabric starts them, or a launcher did (torchrun, SLURM). Decided here is how long one waits for another, and what
becomes of the others when one is killed: each ends within a bounded time, with one sentence.

    before all have joined    after `JOINING`, or at once where the lost one was started by this process
    afterwards                at the next exchange: a closed connection is noticed; else after `EXCHANGING`
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from lightning_fabric.utilities.distributed import _set_num_threads_if_needed
from torch.distributed.distributed_c10d import _set_pg_timeout

from pico_train.errors import ConfigError, DistributedError, PicoTrainError

JOINING = timedelta(minutes=5)
"""How long processes wait for each other at the start."""
PREPARING = timedelta(days=7)
"""How long the others wait for rank 0, which may have a large corpus to prepare."""
EXCHANGING = timedelta(minutes=30)
"""How long an exchange of training may take before the other side is given up."""
LEAVING = 30.0
"""Seconds that this process gets to end by itself when one that it started is gone, before it is ended."""
_LOST = ("gloo", "NCCL", "Connection closed", "Connection reset", "connection was reset", "Broken pipe", "Timed out")
"""What messages of torch.distributed that are plain RuntimeErrors say when another process is gone."""


def launched_world() -> tuple[int, int] | None:
    """Processes per node and nodes, where torchrun or SLURM has started this process; else None."""
    env = os.environ
    if "TORCHELASTIC_RUN_ID" in env:
        local = int(env["LOCAL_WORLD_SIZE"])
        return local, int(env["WORLD_SIZE"]) // local
    # An interactive shell inside an allocation has these variables too, but srun has not started this process.
    if "SLURM_NTASKS" in env and env.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        _check_srun(env)
        if "SLURM_PROCID" in env:
            nodes = int(env.get("SLURM_NNODES", 1))
            return int(env["SLURM_NTASKS"]) // nodes, nodes
    return None


def _check_srun(env: Mapping[str, str]) -> None:
    """Refuse a job of several tasks that would wait for tasks which nothing starts, or whose nodes are not told.

    A batch script, too, has the variables of a task (`SLURM_PROCID` is 0 in it); what srun starts has a step's number.
    """
    tasks = env["SLURM_NTASKS"]
    if tasks == "1":
        return
    if "SLURM_STEP_ID" not in env and "SLURM_STEPID" not in env:
        raise ConfigError(
            f"this job has {tasks} tasks (SLURM_NTASKS), and srun has not started this process, so that it would wait "
            "for the others in vain: write `srun pico-train run …` in the job's script, or ask for one task, --ntasks=1"
        )
    if "SLURM_NTASKS_PER_NODE" not in env:
        raise ConfigError(
            f"this job has {tasks} tasks (--ntasks) without a number for each node: ask for --ntasks-per-node instead"
        )


@contextlib.contextmanager
def connected(fabric: Fabric, started: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Start the other processes where nothing else did, and connect with them; where this one fails, they are ended.

    Args:
        fabric: Not launched yet.
        started: Gets the processes that are started here.

    Raises:
        DistributedError: another process ended or cannot be reached; raised also for what happens inside.
    """
    launcher = fabric.strategy.launcher
    if isinstance(launcher, _SubprocessScriptLauncher):
        fabric.strategy._launcher = _Launcher(launcher, started)  # noqa: SLF001
    try:
        fabric.launch()
        wait_at_most(PREPARING)
        yield
    except BaseException as error:
        end(started, grace=1.0)
        if isinstance(error, RuntimeError) and _is_lost(error) and not isinstance(error, PicoTrainError):
            raise DistributedError(_sentence(error)) from error
        raise


def wait_at_most(timeout: timedelta) -> None:
    """How long this process waits for others in an exchange, from now on."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        _set_pg_timeout(timeout)


def end(processes: list[subprocess.Popen[bytes]], *, grace: float) -> None:
    """End processes that do not end by themselves within `grace` seconds."""
    deadline = time.monotonic() + grace
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
    for process in processes:
        process.kill()


def _is_lost(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or any(word in str(error) for word in _LOST)


def _sentence(error: RuntimeError) -> str:
    reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
    if not dist.is_initialized():
        return f"not all processes of the run have joined ({reason}): see what the others say, and start all again"
    return (
        f"another process of the run ended or cannot be reached ({reason}): see what it says; "
        "what was sealed is intact, the same command resumes it"
    )


class _Launcher(_SubprocessScriptLauncher):
    """Fabric's, which kills this process without a word five seconds after another failed, however it was stopped."""

    def __init__(self, launcher: _SubprocessScriptLauncher, started: list[subprocess.Popen[bytes]]) -> None:
        super().__init__(launcher.cluster_environment, launcher.num_processes, launcher.num_nodes)
        self.procs = started

    def launch(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Start the other processes, watch them, and call `function`."""
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            self._call_children_scripts()
            threading.Thread(target=_watch, args=(self.procs,), name="processes", daemon=True).start()
        _set_num_threads_if_needed(num_processes=self.num_processes)
        return function(*args, **kwargs)


def _watch(processes: list[subprocess.Popen[bytes]]) -> None:
    """The thread: when one of the others failed, see to it that this process and all of them end."""
    while not (failed := [process for process in processes if process.poll()]):
        if all(process.returncode == 0 for process in processes):
            return
        time.sleep(0.2)
    code = failed[0].returncode
    # Connected, this process hears of it in the next exchange, and may have a checkpoint to finish; before, never.
    time.sleep(LEAVING if dist.is_initialized() else 1.0)
    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    end(processes, grace=0.0)
    os.write(2, f"error: process {processes.index(failed[0]) + 1} of the run {how}: it ends as a whole\n".encode())
    os._exit(code if 0 < code < 128 else DistributedError.exit_code)
