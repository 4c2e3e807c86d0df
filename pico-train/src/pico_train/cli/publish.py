"""The command `publish`: what it prints. Mounted by `app`."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from pico_train.cli.console import As, Format, Place, print_table
from pico_train.cli.numbers import MOST

Repo = Annotated[str | None, typer.Option(help="Repository, org/name. [default: the run's publish.repo]")]
Steps = Annotated[str | None, typer.Option(help="Steps to publish, such as 0,1,128. [default: all that are sealed]")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show commits and bytes; send nothing.")]
Private = Annotated[bool | None, typer.Option("--private/--public", help="Visibility of a repository it creates.")]
License = Annotated[str | None, typer.Option(help="Licence in the card, by the Hub's short name.")]
Attempts = Annotated[int, typer.Option(min=1, max=MOST, help="Attempts for each step before giving up.")]


def publish(
    run: Place,
    repo: Repo = None,
    steps: Steps = None,
    dry_run: DryRun = False,
    private: Private = None,
    license: License = None,
    max_attempts: Attempts = 8,
    output: As = Format.table,
) -> None:
    """Publish a run's checkpoints on the Hugging Face Hub, or finish what a training run left pending."""
    from pico_train.addresses import HUB, open_run
    from pico_train.errors import UsageError
    from pico_train.publish.command import choose_settings, choose_steps, publish_run

    if run.startswith(HUB):
        raise UsageError(f"{run} is on the Hub already: name a run on this disk")
    found = open_run(run)
    if found.step is not None and steps is not None:
        raise UsageError(f"{run} names step {found.step} already: leave that or --steps {steps} out")
    run_dir, one = found.run_dir, found.step
    overrides = {"repo": repo, "private": private, "license": license}
    settings = choose_settings(run_dir, {key: value for key, value in overrides.items() if value is not None})
    chosen = [one] if one is not None else choose_steps(run_dir, steps)
    report = publish_run(
        run_dir, settings, steps=chosen, dry_run=dry_run, max_attempts=max_attempts, progress=_progress
    )
    if output is Format.json:
        typer.echo(json.dumps(report.rows, indent=1))
    else:
        print_table(report.rows)
        typer.echo(report.line)
    if report.error is not None:
        sys.stderr.write(f"error: {report.error}\n")
    if report.exit_code:
        raise typer.Exit(report.exit_code)


def _progress(line: str) -> None:
    typer.echo(line, err=True)
