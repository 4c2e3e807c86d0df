"""A suite on SLURM through submitit: one job array, a task a member. Needs the extra ``pico-train[slurm]``.

A task runs the member as `suite run` does, in a process of its own. Told that its time is nearly up (or that it is
preempted), it has the member save, and puts itself into the queue again; the same task then goes on. submitit's local
executor does the same on this machine, for trying it out.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pico_train.config.suites import Member
from pico_train.errors import ConfigError, StorageError, UsageError
from pico_train.suite import running, scripts
from pico_train.suite.record import NOTES, OpenSuite, open_suite
from pico_train.suite.scripts import Wishes


@dataclass(frozen=True)
class Submitted:
    """One task of the array."""

    member: str
    job: str
    """SLURM's number of it."""
    log: Path
    """Where its words go."""


@dataclass(frozen=True)
class Task:
    """What a task does; submitit keeps it as a pickle of its own beside the logs."""

    directory: str
    member: str

    def __call__(self) -> str:
        """Train the member in a process of its own, or go on where it stands.

        Raises:
            PicoTrainError: it failed.
            InterruptedRun: a signal came; the member has saved.
        """
        suite = open_suite(Path(self.directory))
        report = running.run_members(suite, suite.chosen([self.member]), say=print)
        if report.failed:
            raise running.failure(suite, report)
        return report.line

    def checkpoint(self, *_: Any) -> Any:
        """Where submitit asks for it: the same task again goes on."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def submit(
    suite: OpenSuite, members: Sequence[Member], wishes: Wishes, *, cluster: str = "slurm"
) -> tuple[list[Submitted], list[Any]]:
    """Submit members as one job array.

    Args:
        suite: Begun.
        members: Those to be trained.
        wishes: What a task asks for. One node each: over several, `scripts.slurm` shows what to submit.
        cluster: slurm; or local, processes of this machine.

    Returns:
        What was submitted, and submitit's jobs.

    Raises:
        ConfigError: there is no SLURM here, or no submitit; or a member does not fit.
        StorageError: SLURM refused.
    """
    try:
        import submitit
    except ImportError:
        raise ConfigError(
            "submitting needs submitit: pip install 'pico-train[slurm]' (or see `pico-train suite script slurm`)"
        ) from None
    if cluster == "slurm" and shutil.which("sbatch") is None:
        raise ConfigError(
            "there is no SLURM on this machine (no sbatch): submit where there is, print what would be submitted with "
            "`pico-train suite script slurm`, or train here with `pico-train suite run`"
        )
    if wishes.nodes > 1:
        raise UsageError("--nodes: submit trains each member on one node: `pico-train suite script slurm` has several")
    scripts.check(members, wishes)
    folder = suite.directory / NOTES / "jobs"
    executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
    asked: dict[str, Any] = {"name": suite.name, "timeout_min": wishes.minutes, "cpus_per_task": wishes.cpus}
    asked |= {"gpus_per_node": wishes.gpus} if wishes.gpus else {}
    asked |= {"mem_gb": wishes.memory_gb} if wishes.memory_gb else {}
    if cluster == "slurm":
        named = {"partition": wishes.partition, "account": wishes.account, "array_parallelism": wishes.at_once}
        asked |= {f"slurm_{key}": value for key, value in named.items() if value}
        more = dict(scripts.pairs(wishes.more))
        asked["slurm_additional_parameters"] = {"requeue": True} | more
    try:
        executor.update_parameters(**asked)
        jobs = executor.map_array(lambda task: task(), [Task(str(suite.directory.resolve()), m.name) for m in members])
    except (OSError, RuntimeError, submitit.core.utils.FailedJobError) as error:
        reason = str(error).strip().splitlines()[-1][:300] if str(error).strip() else type(error).__name__
        raise StorageError(f"SLURM refuses the suite {suite.name}: {reason}") from None
    found = [
        Submitted(member.name, str(job.job_id), Path(job.paths.stdout))
        for member, job in zip(members, jobs, strict=True)
    ]
    return found, jobs
