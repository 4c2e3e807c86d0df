"""metrics.jsonl: one JSON object per logged step, appended as it happens; on a resume, cut where the run goes on.

Each line has a `step`. The line of step N tells of the weights of step N and of the update N → N+1. A run that resumes
at step N does that update again, so the lines of step N and later leave the log first (`set_aside` keeps them): no gap,
no duplicate.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pico_schema import layout, strict_json
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


def cut(path: Path, *, first_dropped: int, aside: Path | None = None, disk: Disk | None = None) -> int:
    """Drop the lines of step `first_dropped` and later, and anything that is not a whole line of a step.

    Args:
        path: The log; it may be missing.
        first_dropped: The step at which the run resumes.
        aside: A file that gets the lines, before they leave the log.
        disk: Where to write.

    Returns:
        How many lines were dropped.
    """
    if not path.is_file():
        return 0
    disk = disk or Disk()
    lines = path.read_bytes().splitlines(keepends=True)
    leaving = [not _belongs_before(line, first_dropped) for line in lines]
    if any(leaving):
        if aside is not None:
            replace_file(disk, aside, b"".join(line for line, leaves in zip(lines, leaving, strict=True) if leaves))
        replace_file(disk, path, b"".join(line for line, leaves in zip(lines, leaving, strict=True) if not leaves))
    return sum(leaving)


def _belongs_before(line: bytes, step: int) -> bool:
    row = parse_line(line)
    return row is not None and row["step"] < step


def count(path: Path, *, first: int) -> int:
    """How many whole lines there are of step `first` and later."""
    return sum(row["step"] >= first for row in read(path))


def read(path: Path) -> list[dict[str, Any]]:
    """All whole lines, in order."""
    if not path.is_file():
        return []
    rows = (parse_line(line) for line in path.read_bytes().splitlines(keepends=True))
    return [row for row in rows if row is not None]


def parse_line(line: bytes) -> dict[str, Any] | None:
    """A line as a dictionary; None if it is torn, or not that of a step."""
    if not line.endswith(b"\n"):
        return None
    try:
        row = strict_json.parse(line, own=False)
    except ValueError:
        return None
    if not isinstance(row, dict) or type(row.get("step")) is not int or not 0 <= row["step"] <= layout.MAX_STEP:
        return None
    return row


def number(row: Mapping[str, Any], name: str) -> float | None:
    """A value of a line, if it is a number that is finite."""
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None
