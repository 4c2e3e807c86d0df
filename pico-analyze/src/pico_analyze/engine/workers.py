"""What an executor is to the engine: where batches are given to, how many at a time, and how it tells of a loss."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pico_analyze.engine.work import Work


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


Opening = Callable[["Work"], AbstractContextManager[Workers]]
"""Starts or reaches workers for some work."""
