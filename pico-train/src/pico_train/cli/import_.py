"""The command `import`: checkpoints from elsewhere become runs of this layout."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from pico_train.cli.brief import Brief
from pico_train.cli.console import As, Format
from pico_train.cli.numbers import MOST_STEPS

app = typer.Typer(cls=Brief, help="Turn checkpoints from elsewhere into runs.", no_args_is_help=True)


@app.callback()
def _root() -> None:
    pass


@app.command("pico-v1")
def pico_v1(
    directory: Annotated[Path, typer.Argument(help="Holds model.safetensors and config.json of Pico 1.0.")],
    out: Annotated[Path, typer.Option(help="The run to make, or to add this step to.")],
    step: Annotated[
        int | None,
        typer.Option(min=0, max=MOST_STEPS, help="Updates done. [default: from the name, as in step_20]"),
    ] = None,
    output: As = Format.table,
) -> None:
    """A checkpoint of Pico 1.0: its interleaved rotary pairs become half-split ones, its names Llama's."""
    from pico_train.checkpoint.importing import checked_directory, import_checkpoint

    target = import_checkpoint(checked_directory(directory), out, step=step)
    if output is Format.json:
        typer.echo(json.dumps({"run": str(out), "checkpoint": str(target)}))
    else:
        typer.echo(f"{directory} is now {target}")
        typer.echo(f"next    pico-train inspect {shlex.quote(str(out))}")
