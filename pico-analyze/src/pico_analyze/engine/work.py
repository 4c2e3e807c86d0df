"""What a worker is sent beside its batch, and what comes back: plain data, wherever the worker runs; and what workers
are to the engine: where batches are given to, how many at a time, and how a loss is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from threading import Event
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from pico_analyze.engine.tasks import Task
    from pico_analyze.questions.question import Question
    from pico_analyze.stores.base import Store
    from pico_analyze.stores.opening import ReadOptions


@dataclass
class Tally:
    """What was done, for the summary and for tests."""

    reads: Counter[tuple[str, int, str | None, str, str]] = field(default_factory=Counter)
    """(location, step, split, data, site) → times read."""
    bytes_read: int = 0
    warnings: Counter[str] = field(default_factory=Counter)
    """Warning of a metric → times it was given."""
    undefined: Counter[str] = field(default_factory=Counter)
    """Reason → number of rows without a value."""
    skipped: Counter[str] = field(default_factory=Counter)
    """What could not be compared, found only while comparing → how often."""

    def add(self, other: Tally) -> None:
        """Add another worker's tally."""
        self.reads.update(other.reads)
        self.bytes_read += other.bytes_read
        self.warnings.update(other.warnings)
        self.undefined.update(other.undefined)
        self.skipped.update(other.skipped)


@dataclass(frozen=True)
class Here:
    """What only workers in the command's own process have: open runs, and a way to tell and to be told."""

    stores: tuple[Store, ...]
    stop: Event
    """Set when no further task is to be begun."""
    gone: Event
    """Set when what is being computed is no longer waited for."""
    told: Callable[[int], None]
    """Called with the number of tasks that were just completed."""


@dataclass(frozen=True)
class Work:
    """Everything that a worker must know to carry out batches; picklable."""

    started: int
    """When the command began, in ns: names its parts, and orders them."""
    locations: tuple[str, ...]
    """The runs, as they are opened again elsewhere."""
    checkpoints: tuple[Mapping[int, str], ...]
    """Of each run, the digest of each checkpoint that is read."""
    options: ReadOptions
    questions: tuple[Question, ...]
    memory: float
    """Bound of what one worker holds at a time, in bytes."""
    tables: Mapping[int, Path] | None
    """Directory of each run's table; None where nothing is written and rows are sent back."""
    versions: Mapping[str, str]
    """Version of each package that computes: a worker must have the same."""
    here: Here | None = None
    """Not sent to other processes."""

    def __getstate__(self) -> dict[str, object]:
        return vars(self) | {"here": None}

    def part(self, task: Task) -> str:
        """Name of a task's part: the same whoever computes it."""
        return f"{self.started:020d}-{task.digest}.parquet"


@dataclass
class Done:
    """What came of a batch."""

    tasks: int = 0
    tally: Tally = field(default_factory=Tally)
    unwritten: list[tuple[int, str, bytes]] = field(default_factory=list)
    """Run, name and content of parts that the worker could not leave where they belong."""


def shared_among(work: Work, workers: int) -> Work:
    """The work of one of several workers: the memory bound is divided among them."""
    return replace(work, memory=work.memory / max(1, workers))


@dataclass(frozen=True)
class Workers:
    """An executor, and what has to be known about it."""

    executor: Executor
    count: int
    """Batches that are carried out at a time."""
    per_machine: int = 0
    """Of these, the most that share one machine's memory; 0 for all."""
    in_process: bool = False
    """Whether workers are threads of this process."""
    lost: tuple[type[BaseException], ...] = ()
    """Exceptions of a future that mean that its worker, not its task, failed."""
    name: str = "the workers"
    """What they are, for messages."""


Opening = Callable[[Work], AbstractContextManager[Workers]]
"""Starts or reaches workers for some work."""
