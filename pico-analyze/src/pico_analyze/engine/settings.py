"""How an analysis is carried out, and who is told of it; nothing here changes a value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pico_analyze.engine.tasks import Shard
from pico_analyze.errors import UsageError
from pico_analyze.stores.base import Store, Unusable
from pico_analyze.stores.opening import ReadOptions


@dataclass(frozen=True)
class Settings:
    """How an analysis is carried out; none of it changes a value."""

    out: Path | None = None
    """Directory in which each run gets its own; None: nothing is written, and nothing reused."""
    jobs: int = 1
    """Processes on this machine; 1 stays in this one."""
    threads: int = 0
    """Threads, where there is one process; 0 for as many as cores."""
    scheduler: str | None = None
    """Address of a Dask scheduler, whose workers then do the work."""
    shard: Shard | None = None
    """Only this share of the work; the rows of all shares are brought together by a call without one."""
    memory: float = 1.0
    """Bound of tensors and matrices held at a time, in GiB, by all workers of one machine together."""
    fresh: bool = False
    """Compute again what is already in the table."""
    read: ReadOptions = field(default_factory=ReadOptions)
    """How remote runs are read."""

    @classmethod
    def of(
        cls,
        out: str | Path | None,
        jobs: int,
        threads: int,
        scheduler: str | None,
        shard: str | None,
        memory: float,
        fresh: bool,
        read: ReadOptions,
    ) -> Settings:
        """From the words of a command or a call, a shard written ``I/N``.

        Raises:
            UsageError: words that contradict each other, or no shard.
        """
        of_shard = None if shard is None else Shard.parse(shard)
        return cls(None if out is None else Path(out), jobs, threads, scheduler, of_shard, memory, fresh, read)

    def __post_init__(self) -> None:
        if self.shard is not None and self.out is None:
            raise UsageError("a shard without a directory for its rows is lost work: give one (out)")
        if not 0 < self.memory < math.inf:
            raise UsageError(f"memory={self.memory} bounds nothing: give a number of GiB above 0")
        if self.scheduler is not None and self.jobs > 1:
            raise UsageError("--jobs and --scheduler exclude each other: workers of the scheduler do the work")


class Listener(Protocol):
    """What is told about a running analysis."""

    def opened(self, store: Store) -> None:
        """A run was opened and its kind found out."""

    def unusable(self, store: Store, found: Sequence[Unusable]) -> None:
        """Checkpoints that are not complete, and are left out."""

    def planned(self, tasks: int) -> None:
        """So many tasks are to do."""

    def advanced(self, tasks: int) -> None:
        """Tasks that were just done."""


class Silence:
    """A listener that does nothing."""

    def opened(self, store: Store) -> None: ...  # noqa: D102
    def unusable(self, store: Store, found: Sequence[Unusable]) -> None: ...  # noqa: D102
    def planned(self, tasks: int) -> None: ...  # noqa: D102
    def advanced(self, tasks: int) -> None: ...  # noqa: D102
