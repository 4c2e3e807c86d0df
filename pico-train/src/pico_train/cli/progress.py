"""What a person sees while a run goes on: a live bar on a terminal, plain lines elsewhere. On stderr."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

from pico_train.reporter import Reporter


class TerminalReporter(Reporter):
    """Prints the course of one run.

    Args:
        quiet: Print nothing; warnings, which are Python's, are seen all the same.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.live = self.console.is_terminal
        self.active = True
        self._bar: Progress | None = None
        self._task: Any = None
        self._latest: dict[str, Any] = {}
        if quiet:
            self.silence()

    def silence(self) -> None:
        """Print nothing from here on."""
        self.active = self.live = False
        self.console.quiet = True

    def say(self, text: str) -> None:
        """Print one line; it stays above the bar."""
        if self.active:
            self.console.print(text, markup=False)

    @contextmanager
    def working(self, text: str) -> Iterator[None]:
        """Show that something is going on that may take a while."""
        started = time.perf_counter()
        if self.live:
            with self.console.status(text):
                yield
        else:
            yield
        seconds = time.perf_counter() - started
        if seconds > 2:
            self.say(f"{text}: {seconds:.1f} s")

    @contextmanager
    def training(self, *, start: int, end: int) -> Iterator[None]:
        """The bar, from step `start` to `end`."""
        if not self.live:
            yield
            return
        columns: tuple[ProgressColumn, ...] = (
            TextColumn("step {task.completed}/{task.total}"),
            BarColumn(bar_width=12),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(compact=True),
        )
        with Progress(*columns, console=self.console) as bar:
            self._bar, self._task = bar, bar.add_task("train", total=end, completed=start, numbers="")
            try:
                yield
            finally:
                self._bar = None

    def step(self, row: Mapping[str, Any], *, shown: bool) -> None:
        """One step is done; `shown` says whether it is one whose line is printed. Lines stay above the bar."""
        if shown:
            self.say(f"step {row['step']:>6}  {numbers(row)}")
        if self._bar is not None:
            # Between logged steps only the loss is known: what else was last known stays in sight.
            self._latest |= {name: value for name, value in row.items() if name != "val_loss"}
            self._bar.update(self._task, completed=row["step"], numbers=numbers(self._latest))


def numbers(row: Mapping[str, Any]) -> str:
    """``loss 5.123  lr 1.0e-03  grad 0.51  12,345 tokens/s``, as far as known."""
    parts = []
    if row.get("loss") is not None:
        parts.append(f"loss {row['loss']:.4f}")
    if row.get("val_loss") is not None:
        parts.append(f"val {row['val_loss']:.4f}")
    if row.get("lr") is not None:
        parts.append(f"lr {row['lr']:.2e}")
    if row.get("grad_norm") is not None:
        parts.append(f"grad {row['grad_norm']:.3f}")
    if row.get("tokens_per_second"):
        parts.append(f"{row['tokens_per_second']:,.0f} tokens/s")
    if row.get("mfu") is not None:
        parts.append(f"MFU {row['mfu']:.1%}")
    return "  ".join(parts)
