"""Signals that ask a run to stop: the step is finished, a checkpoint is saved, then the process ends.

SIGINT (Ctrl-C), SIGTERM, and SLURM's requeue signals SIGUSR1 and SIGUSR2 (`sbatch --signal=USR1@90`). The first one
counts; those after it change nothing, so an impatient second Ctrl-C does not tear the save apart.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping
from types import FrameType, TracebackType
from typing import Any, Self

from pico_train.errors import InterruptedRun

STOPPING = tuple(
    number
    for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")
    if (number := getattr(signal, name, None)) is not None
)
"""Signals that stop a run after a save."""


class StopRequest:
    """Notes the first stopping signal, as a context manager; handlers are put back at the end.

    Outside the main thread, where Python allows no handlers, it notes nothing.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        """The first signal that came, or None."""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in STOPPING:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = number


def exit_code(number: int) -> int:
    """The exit code for a run stopped by this signal: 128 + its number (SIGINT 130, SIGTERM 143)."""
    return 128 + number


def interrupted(number: int, *, step: int, requeued: bool = False) -> InterruptedRun:
    """The exception with which a run ends that was stopped by a signal and saved at `step`."""
    what = "requeued" if requeued else "the same command resumes it"
    return InterruptedRun(
        f"stopped by {signal.Signals(number).name} after saving step {step}: {what}", exit_code=exit_code(number)
    )


def requeue(number: int, environment: Mapping[str, str] | None = None) -> bool:
    """Put the job back into SLURM's queue if the signal was its request to, and there is a job.

    Call it on rank 0, after the save.

    Returns:
        Whether `scontrol requeue` was called with success.
    """
    environment = os.environ if environment is None else environment
    job = environment.get("SLURM_ARRAY_JOB_ID")
    task = environment.get("SLURM_ARRAY_TASK_ID")
    name = f"{job}_{task}" if job and task else environment.get("SLURM_JOB_ID", "")
    asked = {getattr(signal, "SIGUSR1", None), getattr(signal, "SIGUSR2", None)}
    scontrol = shutil.which("scontrol", path=environment.get("PATH"))
    if number not in asked or not name.replace("_", "").isdigit() or scontrol is None:
        return False
    return subprocess.run([scontrol, "requeue", name], check=False, timeout=60).returncode == 0
