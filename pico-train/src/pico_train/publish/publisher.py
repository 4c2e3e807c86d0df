"""Publishing beside training: starts with the run, is told of each seal, never makes training wait or fail.

What is to be published follows from the sealed checkpoints on disk, so even a publisher that dies at once loses
nothing: the next run, or `pico-train publish RUN`, takes up what is pending.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pico_schema import layout, read_run
from pico_train.config import PublishConfig
from pico_train.errors import ConfigError, PicoTrainError
from pico_train.publish import queue
from pico_train.publish.queue import Queue
from pico_train.publish.supervisor import Event, Supervisor

CLOSING = 600.0
"""Seconds that a finished run waits for its last checkpoints to be published."""


@dataclass(frozen=True)
class PublishStatus:
    """Where publishing stands."""

    repo: str | None
    published: int
    """Checkpoints that are on the Hub."""
    pending: tuple[int, ...]
    """Steps that are still to be published."""
    refused: tuple[int, ...]
    """Steps that are not fit to be published; their records say why."""
    active: int | None
    """Step that is being published now."""
    error: str | None
    """What went wrong last, if it has not been mended since."""

    @property
    def line(self) -> str:
        """One sentence for people."""
        if self.repo is None:
            return "not published"
        parts = [f"{self.published} published to {self.repo}"]
        if self.pending:
            parts.append(f"{len(self.pending)} pending")
        if self.refused:
            parts.append(f"{len(self.refused)} refused (steps {', '.join(map(str, self.refused[:5]))})")
        return ", ".join(parts) + (f"; last error: {self.error}" if self.error else "")


class Publisher(Protocol):
    """What the run sees of publishing."""

    def enqueue(self, step: int) -> None:
        """A checkpoint was sealed. Returns at once and never raises."""
        ...

    def refuse(self, step: int, reason: str) -> None:
        """The run met a non-finite loss at `step`: nothing more of it is published."""
        ...

    def pending(self) -> set[int]:
        """Steps that are still to be published: nothing of them may be removed yet."""
        ...

    def status(self) -> PublishStatus:
        """Where publishing stands."""
        ...

    def close(
        self, timeout: float = CLOSING, *, progress: Callable[[PublishStatus], None] | None = None
    ) -> PublishStatus:
        """End: publish what is pending for at most `timeout` seconds, then stop. What is left stays pending."""
        ...


class NotPublishing:
    """The publisher of a run without `publish.repo`."""

    def enqueue(self, step: int) -> None:
        """Nothing to do."""

    def refuse(self, step: int, reason: str) -> None:
        """Nothing to do."""

    def pending(self) -> set[int]:
        """None."""
        return set()

    def status(self) -> PublishStatus:
        """Nothing is published."""
        return PublishStatus(None, 0, (), (), None, None)

    def close(
        self, timeout: float = CLOSING, *, progress: Callable[[PublishStatus], None] | None = None
    ) -> PublishStatus:
        """Nothing to end."""
        del timeout, progress  # there is nothing to wait for
        return self.status()


class BackgroundPublisher:
    """Publishes a run while it trains: a thread that supervises a process."""

    def __init__(self, run_dir: Path, settings: PublishConfig, warn: Callable[[str], None]) -> None:
        self.run_dir, self.settings, self._warn = run_dir, settings, warn
        self._queue = Queue(run_dir, str(settings.repo))
        self._active: int | None = None
        self._error: str | None = None
        job = {"task": "publish", "run_dir": str(run_dir), "settings": settings.model_dump(mode="json")}
        self.supervisor = Supervisor(job, run_dir, self._see, restart_wait=settings.retry_wait)
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            last = self.supervisor.run()
        except Exception as error:
            self._report(f"publishing stopped ({error}); take it up with `pico-train publish {self.run_dir}`")
            return
        self._active = None
        if last["event"] in ("denied", "unreachable"):
            self._report(f"publishing stopped: {last['error']}; take it up with `pico-train publish {self.run_dir}`")

    def _see(self, event: Event) -> None:
        kind = event["event"]
        if kind in ("attempt", "uploading"):
            self._active = event.get("step")
        elif kind in ("done", "main", "marked", "described", "idle"):
            self._active = self._error = None
        elif kind in ("refused", "left_out", "halted"):
            self._report(event["error"])
        elif "error" in event:
            self._error = str(event["error"])

    def _report(self, message: str) -> None:
        self._error = message
        try:
            self._warn(message)
        except Exception:  # a warning that cannot be shown is no reason to stop publishing
            self._error = message

    def enqueue(self, step: int) -> None:
        """A checkpoint was sealed: wake the worker. Training goes on whatever happens here."""
        try:
            self._queue.save(self._queue.record(step))
            self.supervisor.tell("wake")
        except Exception as error:
            self._report(f"step {step} could not be queued ({error}); it is published when the run is taken up again")

    def refuse(self, step: int, reason: str) -> None:
        """Halt: nothing more is published until the run has sealed a checkpoint past `step`."""
        self.supervisor.stop()
        try:
            queue.halt(self.run_dir, step, reason)
        except OSError as error:
            self._report(f"publishing stopped, but that could not be noted on disk ({error})")

    def pending(self) -> set[int]:
        """Steps that are sealed and not on the Hub; all of them where the records cannot be read."""
        try:
            return set(self.status().pending)
        except (OSError, PicoTrainError):
            return set(queue.sealed(self.run_dir))

    def status(self) -> PublishStatus:
        """Where publishing stands, from the records on disk."""
        return read_status(self.run_dir, self.settings, active=self._active, error=self._error)

    def close(
        self, timeout: float = CLOSING, *, progress: Callable[[PublishStatus], None] | None = None
    ) -> PublishStatus:
        """Publish what is pending for at most `timeout` seconds, move main if the run is finished, then stop."""
        deadline = time.monotonic() + timeout
        self.supervisor.tell("finish")
        while self._thread.is_alive() and (left := deadline - time.monotonic()) > 0:
            self._thread.join(min(left, 1.0))
            if progress is not None:
                progress(self.status())
        self.supervisor.stop()
        self._thread.join(5.0)
        return self.status()


def read_status(
    run_dir: Path, settings: PublishConfig, *, active: int | None = None, error: str | None = None
) -> PublishStatus:
    """Where publishing of a run stands, from its records."""
    records = Queue(run_dir, str(settings.repo)).records()

    def steps(state: str) -> tuple[int, ...]:
        return tuple(record.step for record in records if record.state == state)

    return PublishStatus(settings.repo, len(steps("done")), steps("pending"), steps("refused"), active, error)


def start_publisher(
    run_dir: Path, settings: PublishConfig, *, warn: Callable[[str], None] = lambda _: None
) -> Publisher:
    """Begin publishing a run, if its settings say so. What is pending from before is taken up.

    Args:
        run_dir: The run; it may still be empty.
        settings: The run's `publish` section.
        warn: Called, on another thread, with one sentence when something needs a person.
    """
    if settings.repo is None:
        return NotPublishing()
    return BackgroundPublisher(run_dir, settings, warn)


def check_access(settings: PublishConfig, run_dir: Path) -> str | None:
    """See to it, before training starts, that publishing will be possible.

    Creates the repository if it does not exist. Takes at most about twenty times `settings.timeout`.

    Args:
        settings: The run's `publish` section.
        run_dir: The run; it may not have begun yet.

    Returns:
        A warning if the Hub could not be reached: training may start, and publishing goes on when it is back.

    Raises:
        ConfigError: no token, one that may not write, or a branch that belongs to another run.
    """
    if settings.repo is None:
        return None
    begun = (run_dir / layout.RUN_MANIFEST).is_file()
    job = {
        "task": "check",
        "run_dir": str(run_dir),
        "settings": settings.model_dump(mode="json"),
        "run_name": read_run(run_dir).name if begun else run_dir.name,
        "run_id": read_run(run_dir).id if begun else None,
    }
    last = Supervisor(job, None, lambda _: None, restart_wait=0.1, max_restarts=1).run()
    if last["event"] == "denied":
        raise ConfigError(f"publish.repo={settings.repo}: {last['error']}")
    if last["event"] != "finished":
        return f"the Hub could not be reached ({last.get('error')}): checkpoints are queued and published when it can"
    return None
