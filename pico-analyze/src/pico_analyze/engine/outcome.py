"""What an analysis gave: rows, and what is to be said about them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas

    from pico_analyze.engine.tasks import Shard
    from pico_analyze.engine.work import Tally


@dataclass(frozen=True)
class Answer:
    """The rows that answer one question about one run."""

    location: str
    """Of the run."""
    digests: frozenset[str]
    """The `digest` of each of these rows."""
    chosen: tuple[str, ...] = ()
    """What the question chose of the run: empty for everything. Names of files have it."""


@dataclass
class Outcome:
    """What an analysis gave."""

    frame: pandas.DataFrame
    """The rows that answer the questions, those computed before included."""
    directories: Mapping[str, Path]
    """Where each run's table lies, by the run's location; empty where nothing was written."""
    skipped: Mapping[str, int]
    """What could not be computed, and how often."""
    tally: Tally
    """What was read, and what metrics warned of."""
    computed: int
    """Metrics of a matrix and its heads computed now."""
    reused: int
    """Those that were already there."""
    new_rows: int
    """Rows computed now."""
    answers: Sequence[Answer]
    """One per question and run."""
    shard: Shard | None = None
    """The share of the work that this was."""
    figures: list[Path] = field(default_factory=list)
    """Pictures drawn of it, by whoever drew them."""

    def frames(self) -> Iterator[tuple[str, pandas.DataFrame]]:
        """The rows of each question, and the location of their run."""
        for answer, rows in self.answered():
            yield answer.location, rows

    def answered(self) -> Iterator[tuple[Answer, pandas.DataFrame]]:
        """The same with the whole answer, those without a row left out."""
        for answer in self.answers:
            rows = self.frame[self.frame["digest"].isin(answer.digests)]
            if len(rows):
                yield answer, rows
