"""What a person at a terminal sees of a running analysis: warnings as lines, progress as a bar, on stderr;
and what is wrong with a command line.

The bar (with the time left) appears only where stderr is a terminal; elsewhere long analyses print a line now and then.
"""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pico_analyze.counting import counted
from pico_analyze.errors import nearest
from pico_analyze.output.without_site import lines
from pico_analyze.stores.base import NamesTensors
from pico_analyze.stores.spec import STORES

if TYPE_CHECKING:
    from pico_analyze.engine.outcome import Outcome
    from pico_analyze.stores.base import Store, Unusable

_LINE_SECONDS = 30.0


def say(text: str) -> None:
    """One line on stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def table_width() -> int | None:
    """Characters of a line of the terminal that stdout is; None where it is a file or a program."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def command_line_fault(error: Exception) -> str | None:
    """What is wrong with a command line that typer could not parse, in one sentence; None for any other error.

    A value that is none of an option's choices is told the nearest. Errors are known by what they have: typer brings a
    copy of click of its own in some versions.
    """
    if not hasattr(error, "format_message"):
        return None
    message: str = error.format_message().rstrip(".")
    parameter = getattr(error, "param", None)
    wrong = re.search(r"'([^']*)' is not one of (.*)", message)
    if parameter is None or wrong is None:
        return message
    choices = re.findall(r"'([^']*)'", wrong[2])
    known = ", ".join(choices)
    return f"{max(parameter.opts, key=len)} {wrong[1]!r} is none: there are {known}{nearest(wrong[1], choices)}"


class Console:
    """A listener that writes to stderr.

    Args:
        doing: What is done, for the bar.
        done: The same of what is done already.
    """

    def __init__(self, doing: str = "measuring", done: str = "measured") -> None:
        self._doing, self._past = doing, done
        self._bar: Any = None
        self._task: Any = None
        self._total, self._done = 0, 0
        self._opened: list[str] = []
        self._begun = self._last = time.monotonic()

    def opened(self, store: Store) -> None:
        """Keep the run's name and kind: they are told once the question is known to make sense."""
        steps = store.steps()
        count = counted(len(steps), "checkpoint")
        self._opened.append(f"{store.run}: {STORES.get(store.kind).title} ({store.location}), {count}")
        if steps and isinstance(store, NamesTensors):
            rest = replace(store.without_site(steps[-1].step), unknown=None)
            self._opened += [f"{store.run}: {line}" for line in lines(rest)]

    def unusable(self, store: Store, found: Sequence[Unusable]) -> None:
        """Name each checkpoint that is left out."""
        for lost in found:
            say(f"warning: {store.run}: {lost.name} is left out: {lost.reason}")

    def planned(self, tasks: int) -> None:
        """Name the runs, begin the bar."""
        for line in self._opened:
            say(line)
        self._total = tasks
        if tasks and sys.stderr.isatty():
            from rich.console import Console as Terminal
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn(self._doing), BarColumn(), MofNCompleteColumn(), TextColumn("left"))
            self._bar = Progress(*columns, TimeRemainingColumn(), console=Terminal(stderr=True), transient=True)
            self._task = self._bar.add_task(self._doing, total=tasks)
            self._bar.start()

    def advanced(self, tasks: int) -> None:
        """Move the bar, or say now and then how far it is."""
        self._done += tasks
        if self._bar is not None:
            self._bar.advance(self._task, tasks)
        elif time.monotonic() - self._last > _LINE_SECONDS:
            self._last = time.monotonic()
            left = (self._last - self._begun) / self._done * (self._total - self._done)
            say(f"{self._past} {self._done} of {self._total}, about {left:.0f} s left")

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def conclude(outcome: Outcome, written: Sequence[object], seconds: float) -> None:
    """The lines at the end: what was skipped, what is doubtful, what is undefined, and where the results are."""
    for reason, count in sorted(_merged(outcome.skipped).items()):
        say(f"skipped: {reason}" + (f" ({counted(count, 'matrix', 'matrices')})" if count > 1 else ""))
    for warning, count in outcome.tally.warnings.items():
        say(f"warning: {warning}" + (f" ({counted(count, 'row')})" if count > 1 else ""))
    undefined = outcome.frame["reason"].dropna().value_counts()
    for why, rows in undefined.items():
        say(f"undefined: {counted(int(rows), 'row')}: {why}")
    reused = f", {len(outcome.frame) - outcome.new_rows} already there" if outcome.reused else ""
    there = counted(len(outcome.frame), "row")
    where = " and ".join(str(directory) for directory in outcome.directories.values())
    if outcome.shard is not None:
        say(
            f"shard {outcome.shard}: {there} ({outcome.new_rows} new{reused}, {seconds:.1f} s), as "
            f"parts in {where}: when all shards are done, the same command without --shard brings them together"
        )
        return
    files = ", ".join(["rows.parquet", "rows.csv", *map(str, written)])
    say(f"{there} ({outcome.new_rows} new{reused}, {seconds:.1f} s) in {where}: {files}")


def _merged(skipped: Mapping[str, int], at_most: int = 8) -> dict[str, int]:
    """The reasons, those beyond the eighth summed up in one line."""
    if len(skipped) <= at_most:
        return dict(skipped)
    kept = dict(list(skipped.items())[:at_most])
    rest = len(skipped) - at_most
    return kept | {f"… and {rest} more such steps or sites": sum(list(skipped.values())[at_most:])}
