"""The command `audit`: what is wrong with a run's checkpoints."""

from __future__ import annotations

from typing import Annotated

import typer

from pico_analyze.cli import options as o

WRONG = 3
"""Exit code where something is wrong with a run."""


def audit(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...", help="Runs. Default: the run under ./runs that changed last.", show_default=False
        ),
    ] = None,
    form: o.As = o.Form.table,
    *,
    read: o.Reading,
) -> None:
    """Find what is wrong with a run's checkpoints: files that are not what was sealed, weights that stand under two
    steps, steps that are missing or lie off the way, a step 0 that is none, a tokenizer or configuration that changes,
    NaN. Of weights some rows are read, by range. Exit code 3 where there is an error, 0 with warnings and notes alone.
    """
    from pico_analyze.auditing.audit import audit_store
    from pico_analyze.cli.console import Console, say
    from pico_analyze.output.audit_text import conclusion, findings_as
    from pico_analyze.stores.opening import newest_run
    from pico_analyze.stores.run_names import expanded, open_named

    options = read.options()
    found = []
    for name in expanded(runs or [str(newest_run())]):
        store = open_named(name, options)
        console = Console(doing="reading", done="read")
        try:
            console.opened(store)
            console.planned(len(store.steps()))
            found.append(audit_store(store, console.advanced, options))
        finally:
            console.close()
    typer.echo(findings_as(found, form.value))
    for one in found:
        say(conclusion(one))
    if any(one.count("error") for one in found):
        raise typer.Exit(WRONG)
