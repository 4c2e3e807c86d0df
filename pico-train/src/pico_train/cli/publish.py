"""The command `publish`: what it prints. Mounted by `app`."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from typing import Annotated, Any

import typer


class Format(StrEnum):
    """How data is printed."""

    table = "table"
    json = "json"


Run = Annotated[str, typer.Argument(metavar="RUN", help="A run: its directory, or its name under ./runs.")]
Repo = Annotated[str | None, typer.Option(help="Repository, org/name. [default: the run's publish.repo]")]
Steps = Annotated[str | None, typer.Option(help="Steps to publish, such as 0,1,128. [default: all that are sealed]")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show commits and bytes; send nothing.")]
Private = Annotated[bool | None, typer.Option("--private/--public", help="Visibility of a repository it creates.")]
License = Annotated[str | None, typer.Option(help="Licence in the card, by the Hub's short name.")]
Attempts = Annotated[int, typer.Option(min=1, help="Attempts for each step before giving up.")]
As = Annotated[Format, typer.Option("--format", help="How to print.")]


def publish(
    run: Run,
    repo: Repo = None,
    steps: Steps = None,
    dry_run: DryRun = False,
    private: Private = None,
    license: License = None,
    max_attempts: Attempts = 8,
    output: As = Format.table,
) -> None:
    """Publish a run's checkpoints on the Hugging Face Hub, or finish what a training run left pending."""
    from pico_train.addresses import parse_target
    from pico_train.publish.command import choose_settings, choose_steps, publish_run

    run_dir, one = parse_target(run)
    overrides = {"repo": repo, "private": private, "license": license}
    settings = choose_settings(run_dir, {key: value for key, value in overrides.items() if value is not None})
    chosen = [one] if one is not None else choose_steps(run_dir, steps)
    report = publish_run(
        run_dir, settings, steps=chosen, dry_run=dry_run, max_attempts=max_attempts, progress=_progress
    )
    if output is Format.json:
        typer.echo(json.dumps(report.rows, indent=1))
    else:
        _print_table(report.rows)
        typer.echo(report.line)
    if report.error is not None:
        sys.stderr.write(f"error: {report.error}\n")
    if report.exit_code:
        raise typer.Exit(report.exit_code)


def _progress(line: str) -> None:
    typer.echo(line, err=True)


def _print_table(rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    names = list(rows[0])
    cells = [["" if row[name] is None else str(row[name]) for name in names] for row in rows]
    widths = [max(len(name), *(len(line[i]) for line in cells)) for i, name in enumerate(names)]
    for line in [names, *cells]:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
