"""The command `evaluate`: what it prints. Mounted by `app`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pico_train.cli import completion
from pico_train.cli.console import As, Format, print_table, progress_line
from pico_train.cli.numbers import MOST
from pico_train.counting import counted

if TYPE_CHECKING:
    from pico_train.evaluation.foreign_series import ForeignSeries
    from pico_train.evaluation.series import OwnSeries
    from pico_train.evaluation.sweep import Swept

Model = Annotated[
    str,
    typer.Argument(
        metavar="RUN[@STEP]",
        help="A run, as for other commands; or models of others: a folder, a folder of checkpoints, hf://ORG/NAME, "
        "hf://ORG/NAME@step0,step512.",
        autocompletion=completion.runs,
    ),
]
Names = Annotated[
    str,
    typer.Option(
        "--tasks",
        help="With commas: validation, pairs, python-pairs, pairs:FILE, choices:FILE, text:PATH, tokens:DIRECTORY, "
        "hub:ORG/NAME, paloma, paloma-tinsy, babylm:FOLDER, pico1:PATH, NAME=task; any other is a task of lm-eval "
        "(pip install 'pico-train\\[eval]').",
    ),
]


def evaluate(
    model: Model,
    tasks: Names = "validation,pairs",
    steps: Annotated[str | None, typer.Option(help="Steps, such as 0,1,128. [default: all]")] = None,
    batch_size: Annotated[int, typer.Option(min=1, max=MOST, help="Rows per forward pass.")] = 16,
    stride: Annotated[
        int | None,
        typer.Option(min=1, max=MOST, help="Tokens by which windows over long documents go on. [default: half]"),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Directory of results of models of others. [default: evaluated/NAME]")
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Tokenizer that shards without a manifest were made with: the run's.")
    ] = None,
    allow_overlap: Annotated[
        bool, typer.Option("--allow-overlap", help="Take sets that stand in the training rows.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Measure also what is known already.")] = False,
    include_path: Annotated[Path | None, typer.Option(help="Folder of task files for lm-eval.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, max=MOST, help="Documents of each task of lm-eval. [default: all]")
    ] = None,
    push: Annotated[
        bool, typer.Option("--push", help="Commit new results to the run's branch on the Hub, in one commit.")
    ] = False,
    output: As = Format.table,
) -> None:
    """Measure checkpoints: loss, bits per byte, minimal pairs, tasks of lm-eval. Results lie beside what is sealed."""
    from functools import partial

    from pico_train.errors import UsageError
    from pico_train.evaluation import harness
    from pico_train.evaluation.series import open_series
    from pico_train.evaluation.sweep import Wanted, sweep
    from pico_train.evaluation.tasks import parse, parse_all

    names = [name.strip() for name in tasks.split(",") if name.strip()]
    if not names:
        raise UsageError("--tasks names none: give some, such as validation,pairs")
    built_in = [name for name in names if parse(name) is not None]
    others = [name for name in names if name not in built_in]
    measure = None
    if others:
        known = harness.check(others, include_path)
        measure = partial(harness.measure, manager=known, batch_size=batch_size, device=device, limit=limit)
    series = open_series(model, _steps(steps), out)
    wanted = Wanted(
        tasks=parse_all(built_in),
        others=others,
        batch_size=batch_size,
        stride=stride,
        device=device,
        tokenizer=tokenizer,
        allow_overlap=allow_overlap,
        again=again,
        harness=measure,
    )
    say = progress_line()
    swept = sweep(series, wanted, say)
    if push:
        say(_pushed(series, model))
    if output is Format.json:
        rows = [{"step": step, "file": str(series.file(step)), "tasks": of} for step, of in swept.results.items()]
        failed = [{"step": step, "error": error} for step, error in swept.failed.items()]
        typer.echo(json.dumps([*rows, *failed], indent=1))
    else:
        print_table(_table(swept))
        place = series.file(series.steps[0]).parent
        typer.echo(f"{counted(swept.measured, 'result')} measured now, the others were known; in {place}")
    if swept.failed:
        raise typer.Exit(3)


def _pushed(series: OwnSeries | ForeignSeries, place: str) -> str:
    """Commit new results; says what was done."""
    from pico_train.addresses import HUB
    from pico_train.errors import UsageError
    from pico_train.evaluation.series import OwnSeries
    from pico_train.publish.command import choose_settings, push_results

    if not isinstance(series, OwnSeries):
        raise UsageError(f"--push: {place} is a model of others, whose repository is theirs")
    repo = {"repo": place.removeprefix(HUB).partition("@")[0].partition(":")[0]} if series.address else {}
    settings = choose_settings(series.run_dir, repo)
    commit = push_results(series.run_dir, settings)
    return f"{settings.repo}: {'all results are there already' if commit is None else f'commit {commit[:12]}'}"


def _steps(text: str | None) -> list[int] | None:
    from pico_train.errors import UsageError

    if text is None:
        return None
    if not re.fullmatch(r"\s*\d{1,8}(\s*,\s*\d{1,8})*\s*", text, re.ASCII):
        raise UsageError(f"--steps {text!r}: write it as 0,1,128")
    return [int(part) for part in text.split(",")]


def _table(swept: Swept) -> list[dict[str, Any]]:
    """One line for each step and task, parts of tasks left out."""
    rows: list[dict[str, Any]] = []
    for step, tasks in swept.results.items():
        for name, measures in tasks.items():
            if "/" in name:
                continue
            for measure, value in measures.items():
                if isinstance(value, str) or measure.endswith("_se"):
                    continue
                error = measures.get(f"{measure}_se")
                shown = f"{value:,}" if isinstance(value, int) else "" if value is None else f"{value:.5g}"
                spread = f"{error:.2g}" if isinstance(error, float) else ""
                rows.append({"step": step, "task": name, "measure": measure, "value": shown, "± error": spread})
    return rows
