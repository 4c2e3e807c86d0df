"""The commands that show what there is: `list`, `metrics`, `components`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pico_analyze.cli import options as o


def list_runs(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="Runs; RUN@STEP for one checkpoint. [default: all under ./runs]"),
    ] = None,
    form: o.As = o.Form.table,
    *,
    read: o.Reading,
) -> None:
    """Show runs and their checkpoints: step, tokens, loss, size, captures, complete or not; what was set aside, and
    what has no site."""
    from pico_analyze.cli.console import say
    from pico_analyze.errors import NotARunError
    from pico_analyze.output import listing
    from pico_analyze.output.text import as_csv, as_json
    from pico_analyze.stores.opening import RUNS, local_runs
    from pico_analyze.stores.run_names import expanded, open_named

    named: list[str | Path] = list(runs) if runs else list(local_runs())
    if not named:
        raise NotARunError(f"no run under {RUNS.resolve()}: name one, or make one with `pico-train run`")
    options = read.options()
    stores = [open_named(name, options) for name in expanded(named)]
    found = [listing.records(store, lambda sentence: say(f"warning: {sentence}")) for store in stores]
    if form is o.Form.table:
        typer.echo("\n\n".join(listing.text(store, some) for store, some in zip(stores, found, strict=True)))
    elif form is o.Form.json:
        typer.echo(as_json(record for some in found for record in some))
    else:
        typer.echo(as_csv([record for some in found for record in some]))


def evaluations(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs; RUN@STEP for one checkpoint.")],
    out: o.Out = Path("analysis"),
    form: o.As = o.Form.table,
    *,
    read: o.Reading,
) -> None:
    """Bring results of evaluation into a run's table, as metric eval/TASK/MEASURE, and show them."""
    import pandas

    from pico_analyze.cli.console import say
    from pico_analyze.engine.evaluations import bring
    from pico_analyze.output.evaluations import as_text
    from pico_analyze.output.text import as_json

    found = [bring(run, out, read.options()) for run in runs]
    frame = pandas.concat([rows for rows, _ in found], ignore_index=True)
    if form is o.Form.table:
        typer.echo(as_text(frame))
    elif form is o.Form.json:
        typer.echo(as_json(frame.to_dict("records")))
    else:
        typer.echo(frame.to_csv(index=False).rstrip("\n"))
    say(f"{len(frame)} results in {', '.join(str(directory) for _, directory in found)}")


def metrics(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One metric, with everything about it.")] = None,
    form: o.As = o.Form.table,
) -> None:
    """List the metrics, or show the page of one: definition, range, best value, cost, reference."""
    from pico_analyze.output import metric_pages

    typer.echo(metric_pages.metrics(name, form.value))


def components(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="One component, with everything about it.")
    ] = None,
    form: o.As = o.Form.table,
) -> None:
    """List the components, or show the page of one."""
    from pico_analyze.output import metric_pages

    typer.echo(metric_pages.components(name, form.value))
