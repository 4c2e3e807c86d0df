"""How commands print data: the format option they share, and aligned columns; and what is wrong with a command line."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from enum import StrEnum
from typing import Annotated, Any

import typer

from pico_train.cli import completion


class Format(StrEnum):
    """How data is printed."""

    table = "table"
    json = "json"


As = Annotated[Format, typer.Option("--format", help="How to print.")]
Place = Annotated[
    str,
    typer.Argument(
        metavar="RUN[@STEP]",
        help="A run: its name under ./runs, its directory, or hf://ORG/NAME@BRANCH; @STEP is a step, first or last.",
        autocompletion=completion.runs,
    ),
]


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows under their keys, columns aligned, columns of numbers to the right; nothing where there are none."""
    if not rows:
        return
    names = list(rows[0])
    cells = [["" if row.get(name) is None else str(row[name]) for name in names] for row in rows]
    widths = [max(len(name), *(len(line[i]) for line in cells)) for i, name in enumerate(names)]
    numeric = [all(_is_number(line[i]) for line in cells) for i in range(len(names))]
    for line in [names, *cells]:
        parts = [cell.rjust(widths[i]) if numeric[i] else cell.ljust(widths[i]) for i, cell in enumerate(line)]
        typer.echo("  ".join(parts).rstrip())


def _is_number(text: str) -> bool:
    digits = text.replace(",", "").replace(".", "", 1).removeprefix("-")
    return not text or digits.isdigit()


def progress_line() -> Callable[[str], None]:
    """Sentences on stderr: one line that changes on a terminal, lines elsewhere."""
    live = sys.stderr.isatty()

    def say(text: str) -> None:
        typer.echo(f"\r\x1b[K{text}" if live else text, err=True, nl=not live)

    return say


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
    near = get_close_matches(wrong[1], choices, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}" if near else ""
    return f"{max(parameter.opts, key=len)} {wrong[1]!r} is none: there are {', '.join(choices)}{hint}"
