"""What a person sees of a run: lines that stay, a bar on a terminal, and nothing where quiet was asked for."""

from __future__ import annotations

import io
import warnings

import pytest
from rich.console import Console

from pico_train.cli.progress import TerminalReporter

ROWS = [
    ({"step": 1, "loss": 8.25}, False),
    ({"step": 2, "loss": 8.0, "lr": 1e-3, "grad_norm": 0.5, "val_loss": 8.1}, True),
    ({"step": 3, "loss": 7.5}, False),
]


def told(reporter: TerminalReporter, *, terminal: bool) -> str:
    """What a course of three steps prints, of which the second is logged."""
    out = io.StringIO()
    quiet = reporter.console.quiet
    reporter.console = Console(file=out, force_terminal=terminal, width=100, highlight=False, quiet=quiet)
    reporter.live = reporter.live or (terminal and not quiet)
    reporter.say("begins")
    with reporter.training(start=0, end=3):
        for row, shown in ROWS:
            reporter.step(row, shown=shown)
    return out.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_logged_and_validation_losses_are_lines_that_stay(terminal: bool) -> None:
    lines = told(TerminalReporter(), terminal=terminal).splitlines()
    assert sum("step      2  loss 8.0000  val 8.1000  lr 1.00e-03  grad 0.500" in line for line in lines) == 1
    assert not any("step      1" in line or "step      3" in line for line in lines)
    assert any("begins" in line for line in lines)


def test_the_bar_is_on_a_terminal_only() -> None:
    assert "step 3/3" in told(TerminalReporter(), terminal=True)
    assert "3/3" not in told(TerminalReporter(), terminal=False)


@pytest.mark.parametrize("terminal", [True, False])
def test_quiet_prints_nothing_and_warnings_all_the_same(terminal: bool) -> None:
    reporter = TerminalReporter(quiet=True)
    assert told(reporter, terminal=terminal) == ""
    with pytest.warns(RuntimeWarning, match="bends"):
        warnings.warn("the schedule bends", RuntimeWarning, stacklevel=1)
