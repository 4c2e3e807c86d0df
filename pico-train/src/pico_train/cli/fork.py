"""The command `fork`: a run that begins at another run's checkpoint. Mounted by `app`."""

from __future__ import annotations

import shlex
from enum import StrEnum
from typing import Annotated

import typer

from pico_train.cli.console import Place
from pico_train.cli.numbers import MOST_STEPS


class OptimizerOption(StrEnum):
    """What becomes of the optimizer's state."""

    kept = "kept"
    fresh = "fresh"


class RowsOption(StrEnum):
    """Where the data go on."""

    continued = "continued"
    anew = "anew"


def fork(
    place: Place,
    name: Annotated[str, typer.Option(help="Name of the new run: its directory, and its branch on the Hub.")],
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", help="What is to be otherwise, such as training.max_steps=100; repeatable."),
    ] = None,
    cooldown: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_STEPS, help="Train so many steps more, over which a wsd schedule decays."),
    ] = None,
    optimizer: Annotated[
        OptimizerOption, typer.Option(help="Whether the optimizer goes on with its state, or begins with none.")
    ] = OptimizerOption.kept,
    data: Annotated[
        RowsOption | None,
        typer.Option(
            help="Whether rows go on where the run stood, or begin at the first. [default: continued, where data and "
            "order are the same]"
        ),
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="Directory in which the run's directory is made. [default: where the other lies]")
    ] = None,
    train: Annotated[bool, typer.Option("--train/--no-train", help="Train it, or only make it.")] = True,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings and the result, no progress.")] = False,
) -> None:
    """Begin a run at a checkpoint of another one, on this disk or on the Hub, and train it; or go on with it."""
    import pico_train
    from pico_train import environment
    from pico_train import fork as forking
    from pico_train.cli.progress import TerminalReporter

    trunk = forking.open_trunk(place, state=optimizer is OptimizerOption.kept)
    forking.check_name(name, trunk)
    config = forking.forked_config(trunk, name, out=out, assignments=assignments or (), cooldown=cooldown)
    reporter = TerminalReporter(quiet=quiet)
    if environment.is_first_rank():
        made, parent = forking.fork(trunk, config, optimizer=optimizer.value, data=data.value if data else None)
        reporter.say(f"{made}: forked from {trunk.label}, optimizer {parent.optimizer}, data {parent.data}")
        if not train:
            typer.echo(f"next    pico-train run {shlex.quote(f'{made}/config.yaml')}")
    if train:
        summary = pico_train.train(config, reporter=reporter)
        if summary is not None:
            loss = f", loss {summary.last_loss:.3f}" if summary.last_loss is not None else ""
            typer.echo(f"{summary.run_dir}: {summary.steps:,} steps{loss}, {summary.checkpoints} checkpoints")
