"""What a run tells of its course while it goes on. This one says nothing; that of the command line prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class Reporter:
    """Told of the course of one run, on every process of it. Each method may be overridden."""

    def silence(self) -> None:
        """Say nothing from here on: this process is not the one that prints."""

    def say(self, text: str) -> None:
        """One line for people."""

    @contextmanager
    def working(self, text: str) -> Iterator[None]:
        """Inside, something goes on that may take a while."""
        del text
        yield

    @contextmanager
    def training(self, *, start: int, end: int) -> Iterator[None]:
        """Inside, the run trains from step `start` to `end`."""
        del start, end
        yield

    def step(self, row: Mapping[str, Any], *, shown: bool) -> None:
        """One step is done.

        Args:
            row: Its line of metrics; between logged steps, step and loss alone.
            shown: Whether it is a logged step.
        """
