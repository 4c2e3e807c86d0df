"""Does one thing to a run again and again, each time in a forked process that is killed at the next call of its disk.

Run as a program of its own, so that the process that forks has one thread: `python kill_every_call.py BASE WORK WHAT`,
where WHAT is one of `ACTIONS`.
Leaves WORK/<N>-<whole|torn> for each N, and prints as JSON what each child's last call was to be.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from pico_train.checkpoint import set_aside
from pico_train.checkpoint.metrics_log import MetricsLog
from pico_train.checkpoint.repair import repair_run
from pico_train.checkpoint.writer import CheckpointWriter
from pico_train.config import KeepPolicy
from support.disks import CountingDisk, KillingDisk
from support.small_run import clone, contents

BUFFER = 256
"""Bytes per write: small, so that a file takes several."""


def save(run_dir: Path, disk: CountingDisk) -> None:
    """What a training process does at step 2: log, save, prune."""
    log = MetricsLog(run_dir / "metrics.jsonl", disk=disk)
    log.append({"step": 1, "loss": 2.0})
    with CheckpointWriter(run_dir, disk=disk, buffer=BUFFER, metrics_log=log, keep=KeepPolicy(last=1)) as writer:
        writer.save(contents(2))


def put_aside(run_dir: Path, disk: CountingDisk) -> None:
    """What a run does that goes on from step 1."""
    set_aside.put_aside_after(run_dir, 1, reason="the run went on from step 1", disk=disk)


def take_back(run_dir: Path, disk: CountingDisk) -> None:
    """A run that had set step 2 aside arrives at it again."""
    with CheckpointWriter(run_dir, disk=disk, buffer=BUFFER) as writer:
        writer.save(contents(2, training_state=False))
        assert writer.sealed == []


def repair(run_dir: Path, disk: CountingDisk) -> None:
    """`pico-train repair RUN`."""
    repair_run(run_dir, disk=disk)


def accept(run_dir: Path, disk: CountingDisk) -> None:
    """`pico-train repair RUN --accept-losses`."""
    repair_run(run_dir, accept_losses=True, disk=disk)


ACTIONS = {action.__name__: action for action in (save, put_aside, take_back, repair, accept)}


def main(base: Path, work: Path, what: str) -> None:
    action = ACTIONS[what]
    counting = CountingDisk()
    action(clone(base, work / "undisturbed"), counting)
    for n, call in enumerate(counting.calls, start=1):
        for torn in (False, True) if call == "write" else (False,):
            run_dir = clone(base, work / f"{n}-{'torn' if torn else 'whole'}")
            child = os.fork()
            if child == 0:
                action(run_dir, KillingDisk(n, torn=torn))
                os._exit(0)
            _, status = os.waitpid(child, 0)
            assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (n, call, status)
    json.dump(counting.calls, sys.stdout)


if __name__ == "__main__":
    warnings.simplefilter("error")
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
