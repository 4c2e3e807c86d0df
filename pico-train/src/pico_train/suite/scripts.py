"""A suite as a script for clusters with rules of their own: what would be submitted, to be read and changed.

`slurm` is one job array, a task a member: each task is trained by as many processes as it has devices, which `srun`
starts. It is told two minutes before its time is up, saves, and puts itself into the queue again. `torchrun` goes
through the members one after the other; one that fails does not stop the others.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pico_train.config.suites import Member, Suite
from pico_train.errors import ConfigError, UsageError
from pico_train.suite.record import NOTES

WARNING = 120
"""Seconds before the end of its time at which a job is told to save."""


@dataclass(frozen=True)
class Wishes:
    """What a job asks the cluster for."""

    minutes: int = 60
    """Time of one task."""
    nodes: int = 1
    gpus: int = 0
    """GPUs of each node; 0 trains on the CPU, in one process a node."""
    cpus: int = 4
    """Cores of each process."""
    memory_gb: int | None = None
    """Memory of each node."""
    partition: str | None = None
    account: str | None = None
    at_once: int | None = None
    """Most tasks of the array that run at the same time."""
    more: Sequence[str] = field(default=())
    """Other words of sbatch, as ``constraint=a100``."""

    @property
    def processes(self) -> int:
        """Processes of each node: one a device."""
        return max(1, self.gpus)


def check(members: Sequence[Member], wishes: Wishes) -> None:
    """See to it that the members fit on what is asked for.

    Raises:
        ConfigError: a member's own devices or nodes are others, or its batch does not divide over them.
    """
    world = wishes.processes * wishes.nodes
    for member in members:
        own = member.config.distributed
        if own.devices not in ("auto", wishes.processes) or own.num_nodes not in (1, wishes.nodes):
            raise ConfigError(
                f"{member.name} is set to {own.devices} devices on {own.num_nodes} nodes, and the job has "
                f"{wishes.processes} on {wishes.nodes}: ask for the same, or leave distributed.* out of the suite"
            )
        batch = member.config.training.batch_size
        if batch % world:
            raise ConfigError(f"{member.name}: its batch of {batch} rows does not divide over {world} processes")


def pairs(words: Sequence[str]) -> list[tuple[str, str]]:
    """``key=value`` of sbatch, as pairs.

    Raises:
        UsageError: a word that is none.
    """
    found = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.replace("-", "").replace("_", "").isalnum() or "\n" in value:
            raise UsageError(f"--slurm {word!r}: write it as sbatch has it, constraint=a100")
        found.append((key.replace("_", "-"), value))
    return found


def slurm(suite: Suite, file: Path, wishes: Wishes) -> str:
    """A job array for sbatch."""
    check(suite.members, wishes)
    notes = suite.directory / NOTES
    limit = f"%{wishes.at_once}" if wishes.at_once else ""
    hours, minutes = divmod(wishes.minutes, 60)
    asked = [
        ("job-name", suite.name),
        ("array", f"0-{len(suite.members) - 1}{limit}"),
        ("nodes", str(wishes.nodes)),
        ("ntasks-per-node", str(wishes.processes)),
        ("cpus-per-task", str(wishes.cpus)),
        ("time", f"{hours:02}:{minutes:02}:00"),
        ("signal", f"USR1@{WARNING}"),
        ("output", f"{notes}/slurm-%A_%a.log"),
    ]
    asked += [("gpus-per-node", str(wishes.gpus))] if wishes.gpus else []
    asked += [("mem", f"{wishes.memory_gb}G")] if wishes.memory_gb else []
    asked += [(name, value) for name, value in (("partition", wishes.partition), ("account", wishes.account)) if value]
    asked += pairs(wishes.more)
    lines = ["#!/bin/bash", *(f"#SBATCH --{name}={_plain(value)}" for name, value in asked)]
    lines += ["#SBATCH --requeue", "#SBATCH --open-mode=append", ""]
    lines += [f"# Submit it in {Path.cwd()}: mkdir -p {shlex.quote(str(notes))} && sbatch THIS_FILE"]
    lines += ["# Told by USR1, a member saves and is put into the queue again; a second submission goes on too.", ""]
    lines += [_members(suite), ""]
    lines += [f'srun {_command(suite, file)} --member "${{members[$SLURM_ARRAY_TASK_ID]}}"']
    return "\n".join(lines) + "\n"


def torchrun(suite: Suite, file: Path, wishes: Wishes) -> str:
    """The members one after the other, each under torchrun; the same script on each node, where there are several."""
    check(suite.members, wishes)
    if wishes.nodes > 1:
        meeting = f'--nnodes={wishes.nodes} --node-rank="$NODE_RANK" --master-addr="$MASTER_ADDR" --master-port=29500'
    else:
        meeting = "--standalone"
    lines = ["#!/bin/bash"]
    if wishes.nodes > 1:
        lines += ["# On each node, with MASTER_ADDR the first node's and NODE_RANK 0, 1, …"]
        lines += [': "${MASTER_ADDR:?}" "${NODE_RANK:?}"']
    lines += ["# One member that fails does not stop the others; the same script again goes on.", ""]
    lines += [_members(suite), "failed=()", 'for member in "${members[@]}"; do']
    run = _command(suite, file).replace("pico-train ", "-m pico_train ", 1)
    lines += [f'  torchrun {meeting} --nproc-per-node={wishes.processes} {run} --member "$member" \\']
    lines += ['    || failed+=("$member")', "done"]
    lines += ['if [ ${#failed[@]} -gt 0 ]; then echo "failed: ${failed[*]}" >&2; exit 1; fi']
    return "\n".join(lines) + "\n"


def _members(suite: Suite) -> str:
    return "members=(" + " ".join(shlex.quote(member.name) for member in suite.members) + ")"


def _command(suite: Suite, file: Path) -> str:
    return f"pico-train suite run {shlex.quote(str(file))} --out {shlex.quote(str(suite.out))}"


def _plain(value: str) -> str:
    """A value as sbatch reads it on such a line: quoted where it has spaces."""
    return f'"{value}"' if any(sign.isspace() for sign in value) else value
