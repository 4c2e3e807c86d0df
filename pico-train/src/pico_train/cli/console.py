"""How commands print data: the format option they share, and aligned columns."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer


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
