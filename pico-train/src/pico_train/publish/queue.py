"""What is published and what is not, on disk: a record per step, so that any later process goes on where one stopped.

Which checkpoints are to be published follows from the run itself: the sealed ones that no record calls done. So nothing
is lost when a process dies between the seal and the queue. Records live in `publish/<org>__<name>/` of the run.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from pico_schema import documents, layout
from pico_schema.digests import sha256_file
from pico_train.checkpoint.lock import RunLock
from pico_train.checkpoint.storage import Disk, replace_file
from pico_train.errors import CheckpointError, PublishError, StorageError
from pico_train.json_file import read_json, read_model

FOLDER = "publish"
HOUR = 3600.0


class StepRecord(BaseModel):
    """What is known about publishing one step."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    step: int
    state: Literal["pending", "done", "refused"] = "pending"
    manifest_sha256: str
    commit: str | None = None
    attempts: int = 0
    error: str | None = None


class Halt(BaseModel):
    """The run met a non-finite loss at `step`: nothing more is published until it got past that step."""

    step: int
    reason: str


class Queue:
    """The records of one run and one repository."""

    def __init__(self, run_dir: Path, repo: str, *, disk: Disk | None = None) -> None:
        self.run_dir = run_dir
        self.disk = disk or Disk()
        self._begun = False
        self.root = run_dir / FOLDER / repo.replace("/", "__")

    def _path(self, step: int) -> Path:
        return self.root / f"{layout.step_dir(step)}.json"

    def record(self, step: int) -> StepRecord:
        """The record of a sealed step: as stored, or a fresh one if there is none or its manifest is another by now."""
        digest = sha256_file(self.run_dir / layout.checkpoint_dir(step) / layout.MANIFEST)
        try:
            stored = read_model(self._path(step), StepRecord)
        except (OSError, ValueError):
            return StepRecord(step=step, manifest_sha256=digest)
        return stored if stored.manifest_sha256 == digest else StepRecord(step=step, manifest_sha256=digest)

    def _begin(self) -> None:
        if not self._begun:
            make_directories(self.run_dir, self.root, disk=self.disk)
            self._begun = True

    def save(self, record: StepRecord) -> None:
        """Store a record, durably."""
        self._begin()
        replace_file(self.disk, self._path(record.step), record.model_dump_json().encode() + b"\n")

    def records(self, steps: Iterable[int] | None = None) -> list[StepRecord]:
        """Records of the sealed checkpoints (or of those of `steps` that are sealed), by ascending step."""
        chosen = set(steps) if steps is not None else None
        return [self.record(step) for step in sealed(self.run_dir) if chosen is None or step in chosen]

    # -- the commit limit, across restarts

    def seconds_until_commit(self, per_hour: int) -> float:
        """How long to wait so that no more than `per_hour` commits fall into any hour."""
        times = self._commit_times()
        return max(0.0, times[-per_hour] + HOUR - time.time()) if len(times) >= per_hour else 0.0

    def count_commit(self) -> None:
        """Note that a commit is about to be made."""
        self._begin()
        times = [*self._commit_times(), time.time()]
        replace_file(self.disk, self.root / "commits.json", json.dumps(times).encode())

    def _commit_times(self) -> list[float]:
        try:
            stored = read_json(self.root / "commits.json")
            return sorted(float(t) for t in stored if time.time() - HOUR < float(t) <= time.time())
        except (OSError, ValueError, TypeError):
            return []


def sealed(run_dir: Path) -> list[int]:
    """Steps of the checkpoints that are complete."""
    return [step for step, path in documents.checkpoint_dirs(run_dir) if (path / layout.MANIFEST).is_file()]


def halt(run_dir: Path, step: int, reason: str, *, disk: Disk | None = None) -> None:
    """Publish nothing more of this run until it has sealed a checkpoint past `step`."""
    disk, folder = disk or Disk(), run_dir / FOLDER
    make_directories(run_dir, folder, disk=disk)
    replace_file(disk, folder / "halt.json", Halt(step=step, reason=reason).model_dump_json().encode())


def make_directories(run_dir: Path, folder: Path, *, disk: Disk | None = None) -> None:
    """Create `folder` under the run where it is missing, and make each part of it durable in its parent."""
    disk = disk or Disk()
    for path in reversed([path for path in (folder, *folder.parents) if run_dir in path.parents]):
        if not path.is_dir():
            with contextlib.suppress(FileExistsError):  # trainer and worker may both begin
                disk.make_directory(path)
        disk.fsync_directory(path.parent)


def not_recorded(run_dir: Path, error: OSError) -> StorageError:
    """The error where this disk does not take what is to be recorded: whatever is on the Hub is found there again."""
    reason = f"{error.strerror or error}"
    return StorageError(
        f"what is published cannot be recorded in {run_dir / FOLDER} ({reason}): make room or give leave to write; "
        "what is on the Hub already is not sent again"
    )


def halted(run_dir: Path) -> Halt | None:
    """The halt in force, if any."""
    try:
        found = read_model(run_dir / FOLDER / "halt.json", Halt)
    except (OSError, ValueError):
        return None
    return found if max(sealed(run_dir), default=-1) <= found.step else None


class PublishLock(RunLock):
    """One publisher per run directory. A publisher whose trainer was killed ends within a second, so it is waited for.

    Args:
        run_dir: The run.
        patience: Seconds to wait for another publisher to end.
        disk: Makes the directory of the lock.
    """

    def __init__(self, run_dir: Path, *, patience: float = 3.0, disk: Disk | None = None) -> None:
        make_directories(run_dir, run_dir / FOLDER, disk=disk)
        super().__init__(run_dir / FOLDER, patience=patience)
        self.run_dir = run_dir

    def acquire(self) -> Self:
        """Take the lock.

        Raises:
            PublishError: another process publishes this run.
        """
        try:
            return super().acquire()
        except CheckpointError:
            raise PublishError(
                f"{self.run_dir} is being published by {self.holder()} already: it takes up every sealed checkpoint, "
                "so wait for it"
            ) from None
