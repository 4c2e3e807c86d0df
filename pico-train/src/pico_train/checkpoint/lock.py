"""One writer per run: a lock file in the run's directory, held with flock for as long as the process lives.

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

from pico_train.errors import CheckpointError

LOCK_FILE = ".lock"


class RunLock:
    """Holds a run for this process, as a context manager or between `acquire` and `release`.

    Raises:
        CheckpointError: another process holds it; the message names process and host.
    """

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / LOCK_FILE
        self._handle: int | None = None

    def acquire(self) -> Self:
        """Take the lock or raise at once."""
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(handle)
        except OSError:
            holder = _holder(handle)
            os.close(handle)
            raise CheckpointError(
                f"{self.path.parent} is in use by {holder}: wait until it ends, or choose another run name"
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
        self._handle = handle
        return self

    def release(self) -> None:
        """Give the lock back; the file stays, since removing it would race with the next holder."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            with contextlib.suppress(OSError):
                os.ftruncate(handle, 0)
            os.close(handle)

    def __enter__(self) -> Self:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _lock(handle: int) -> None:
    if os.name == "posix":
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:  # pragma: no cover - the tests run on POSIX
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]


def _holder(handle: int) -> str:
    try:
        known = json.loads(os.pread(handle, 4096, 0))
        return f"process {int(known['pid'])} on {str(known['host'])[:100]}"
    except (ValueError, KeyError, TypeError, OSError):
        return "another process"
