"""Signals that ask a run to stop: SIGINT (Ctrl-C), SIGTERM, and SLURM's requeue signals SIGUSR1 and SIGUSR2
(`sbatch --signal=USR1@90`).

    first signal, nothing to lose     the work is left at once; what does not leave within two seconds is ended
    first signal, while training      noted: the step is finished, a checkpoint saved, then the process ends
    second signal                     the process ends at once; what was sealed is intact

The first signal decides the exit code. Signals are seen by a thread, so that a process that waits inside of a library
(for the other processes of the run, for a compiler) ends as well.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import FrameType, TracebackType
from typing import Any, NamedTuple, NoReturn, Self

from pico_train.errors import InterruptedRun

STOPPING = tuple(
    number
    for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")
    if (number := getattr(signal, name, None)) is not None
)
"""Signals that stop a run."""
SAME_REQUEST = 0.3
"""Seconds within which signals belong to the first: launchers pass on the Ctrl-C that their processes got as well."""
PATIENCE = 1.5
"""Seconds that work which is to be left at once gets to clean up."""


class Received(NamedTuple):
    """A signal that came."""

    number: int
    """Which."""
    when: float
    """When, in seconds since 1970: signals of several processes are ordered by it."""


class Stopped(KeyboardInterrupt):
    """Raised in the main thread by the first signal, where there is nothing to be finished.

    No `Exception`, so that nothing that survives errors survives it; `StopRequest` makes an `InterruptedRun` of it.
    """


class StopRequest:
    """Sees to stopping signals, as a context manager; handlers are put back at the end.

    Outside the main thread, where Python allows no handlers, it does nothing. Within another StopRequest it takes its
    place, and hands on the signal that came.

    Args:
        says: What is said of a stop before `defer`, after "stopped by SIGTERM".
        ending: Called before the process is ended from the thread, such as to end processes that it started.
    """

    def __init__(self, says: str = "", *, ending: Callable[[], None] = lambda: None) -> None:
        self.received: Received | None = None
        """The first signal that came, or None."""
        self._says, self._ending = says, ending
        self._deferred = self._raised = False
        self._seen = threading.Event()
        self._before: dict[int, Any] = {}
        self._pipe: tuple[int, int] | None = None
        self._wakeup_before = -1

    def defer(self) -> None:
        """From now on the first signal is only noted, in `received`: there is something to be finished."""
        self._deferred = True

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._pipe = os.pipe()
            os.set_blocking(self._pipe[1], False)
            threading.Thread(target=self._watch, args=(self._pipe[0],), name="signals", daemon=True).start()
            self._wakeup_before = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
            for number in STOPPING:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        outer = getattr(next(iter(self._before.values()), None), "__self__", None)
        if isinstance(outer, StopRequest) and outer.received is None and self.received is not None:
            outer.received = self.received
            outer.defer()  # it is being answered
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
        if self._pipe is not None:
            signal.set_wakeup_fd(self._wakeup_before)
            os.close(self._pipe[1])  # the thread reads the end of it, and closes the other
            self._pipe = None
        # Whatever `Stopped` became on its way: libraries make an error of their own of an interrupt, or an exit.
        if self._raised and self.received and error is not None and not isinstance(error, InterruptedRun):
            raise InterruptedRun(self._sentence(), exit_code=exit_code(self.received.number)) from None

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        """Python's handler: in the main thread, as soon as it is between two of its instructions."""
        self._seen.wait(PATIENCE)  # the thread knows which signal came first; handlers are called by number
        if self.received is None:
            self.received = Received(number, time.time())
        if not (self._raised or self._deferred):
            self._raised = True
            raise Stopped

    def _watch(self, pipe: int) -> None:
        """The thread: every signal comes as a byte, at once, whatever the main thread does."""
        deadline: float | None = None
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([pipe], [], [], left)[0]:
                if not self._deferred:
                    self._end(self._sentence())
                deadline = None
                continue
            if not (numbers := os.read(pipe, 1)):
                break
            if numbers[0] not in STOPPING:
                continue
            if self.received is None:
                self.received = Received(numbers[0], time.time())
                deadline = None if self._deferred else time.monotonic() + PATIENCE
            elif time.time() - self.received.when > SAME_REQUEST:
                self._end("ended at once by a second signal; what was sealed is intact")
            self._seen.set()
        os.close(pipe)

    def _end(self, message: str) -> NoReturn:
        """End the process, and those that it started, from the thread."""
        assert self.received is not None
        self._ending()
        if (multiprocessing := sys.modules.get("multiprocessing")) is not None:
            for child in multiprocessing.active_children():
                child.kill()
        os.write(2, f"error: {message}\n".encode())
        os._exit(exit_code(self.received.number))

    def _sentence(self) -> str:
        assert self.received is not None
        return f"stopped by {signal.Signals(self.received.number).name} {self._says}".rstrip()


def _forget_in_child() -> None:
    """A forked process answers signals as any process does, and writes nothing into its parent's pipe."""
    ours = [
        number for number in STOPPING if isinstance(getattr(signal.getsignal(number), "__self__", None), StopRequest)
    ]
    if ours:
        signal.set_wakeup_fd(-1)
    for number in ours:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


os.register_at_fork(after_in_child=_forget_in_child)


def leave(code: str | int | None) -> NoReturn:
    """End a process that was stopped, in good order but without taking the interpreter down.

    That takes a second where torch was imported, in which Python has put its own handlers back: a second signal would
    decide the exit code.

    Args:
        code: As `SystemExit` has it; what is to be said was said.
    """
    atexit._run_exitfuncs()  # noqa: SLF001 - Python has no other name for it
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # a reader that has gone
            stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def exit_code(number: int) -> int:
    """The exit code for a run stopped by this signal: 128 + its number (SIGINT 130, SIGTERM 143)."""
    return 128 + number


def interrupted(number: int, *, step: int | None, saved: bool = True, requeued: bool = False) -> InterruptedRun:
    """The exception with which a run ends that was stopped by a signal while it trained.

    Args:
        number: The signal.
        step: The newest sealed step, None where there is none.
        saved: Whether that is the step at which it stopped; it is not, where that step's loss was not finite.
        requeued: Whether the job is in SLURM's queue again.
    """
    what = "requeued" if requeued else "the same command resumes it"
    where = f"after saving step {step}" if saved else "at a loss that is not finite, which was not saved"
    if not saved:
        where += f"; the newest checkpoint is step {step}" if step is not None else "; there is no checkpoint yet"
    stopped = InterruptedRun(f"stopped by {signal.Signals(number).name} {where}: {what}", exit_code=exit_code(number))
    stopped.everywhere = True
    return stopped


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
