"""metrics.jsonl: one JSON object per logged step, appended as it happens; on a resume, cut where the run goes on.

Each line has a `step`. The line of step N tells of the weights of step N and of the update N → N+1. A run that resumes
at step N does that update again, so the lines of step N and later are dropped first: no gap, no duplicate.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pico_train.checkpoint.storage import Disk, replace_file
from pico_train.errors import StorageError


class MetricsLog:
    """An open metrics.jsonl. Each line is one write, so a killed process leaves whole lines.

    Raises:
        StorageError: the file cannot be opened or written.
    """

    def __init__(self, path: Path, *, disk: Disk | None = None) -> None:
        self.path = path
        self._disk = disk or Disk()
        try:
            self._handle: int | None = self._disk.open_log(path)
        except OSError as error:
            raise StorageError(f"{path}: cannot be opened ({error.strerror}): check the directory") from error

    def append(self, values: Mapping[str, Any]) -> None:
        """Add one line. Non-finite numbers become null: JSON has none."""
        if self._handle is None:
            raise ValueError("the log is closed")
        line = json.dumps({key: _finite(value) for key, value in values.items()}, allow_nan=False) + "\n"
        try:
            self._disk.write(self._handle, memoryview(line.encode()))
        except OSError as error:
            raise StorageError(f"{self.path}: cannot be written ({error.strerror}): free some space") from error

    def sync(self) -> None:
        """Make the lines durable. Done before each seal: a checkpoint never outlives the lines that lead to it."""
        if self._handle is not None:
            self._disk.fsync(self._handle)

    def close(self) -> None:
        """Make the lines durable and close the file."""
        if self._handle is not None:
            self.sync()
            handle, self._handle = self._handle, None
            self._disk.close(handle)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def cut(path: Path, *, first_dropped: int, disk: Disk | None = None) -> int:
    """Drop the lines of step `first_dropped` and later, and anything that is not a whole line of a step.

    Args:
        path: The log; it may be missing.
        first_dropped: The step at which the run resumes.
        disk: Where to write.

    Returns:
        How many lines were dropped.
    """
    if not path.is_file():
        return 0
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if (step := _step(line)) is not None and step < first_dropped]
    if len(kept) != len(lines):
        replace_file(disk or Disk(), path, b"".join(kept))
    return len(lines) - len(kept)


def read(path: Path) -> list[dict[str, Any]]:
    """All whole lines, in order."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if _step(line) is not None]


def _step(line: bytes) -> int | None:
    """The step of a line; None if the line is torn or not one."""
    if not line.endswith(b"\n"):
        return None
    try:
        step = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return None
    return step if isinstance(step, int) else None
