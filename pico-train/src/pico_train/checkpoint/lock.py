"""One writer per run: a lock file in the run's directory, held for as long as the process lives.

The kernel gives the lock back when the process ends, however it ends, so a lock left by a killed process is simply
taken over. What the file says is for the message only.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock

from pico_train.errors import CheckpointError
from pico_train.json_file import read_json

LOCK_FILE = ".lock"
_held: set[RunLock] = set()
"""Locks of this process: each is held until it is released, whether or not anybody still knows of it."""


class RunLock:
    """Holds a run for this process, as a context manager or between `acquire` and `release`.

    Args:
        run_dir: The run.
        patience: Seconds to wait for another process to give it back.

    Raises:
        CheckpointError: another process holds it; the message names process and host.
    """

    def __init__(self, run_dir: Path, *, patience: float = 0.0) -> None:
        self.path = run_dir / LOCK_FILE
        self.patience = patience
        self._lock = FileLock(self.path, thread_local=False, fallback_to_soft=False)

    def acquire(self) -> Self:
        """Take the lock or raise."""
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666))  # what goes wrong here is not a lock that is held
        try:
            self._lock.acquire(timeout=self.patience, blocking=self.patience > 0)
        except OSError:  # held, or a file system without locks, on which nobody can be known not to hold it
            raise CheckpointError(
                f"{self.path.parent} is in use by {self.holder()}: wait until it ends, or choose another run name"
            ) from None
        self.path.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}), encoding="utf-8")
        _held.add(self)
        return self

    def release(self) -> None:
        """Give the lock back; the file stays, since removing it would race with the next holder."""
        if self in _held:
            _held.discard(self)
            with contextlib.suppress(OSError):
                self.path.write_bytes(b"")
            self._lock.release()

    def __enter__(self) -> Self:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def holder(self) -> str:
        """Who holds the lock, for a message."""
        try:
            known = read_json(self.path, most=10_000)
            return f"process {int(known['pid'])} on {str(known['host'])[:100]}"
        except (ValueError, KeyError, TypeError, OSError):
            return "another process"
