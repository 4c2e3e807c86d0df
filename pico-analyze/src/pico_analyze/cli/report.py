"""The command `report`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pico_analyze.cli import options as o

if TYPE_CHECKING:
    from pico_analyze.cli.console import Console
    from pico_analyze.engine.settings import Settings
    from pico_analyze.questions.study import Study
    from pico_analyze.reports import Asked

EVERY_SECONDS = 2.0
"""How often a run that is training is looked at."""


def report(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN|TABLE]...",
            help="Runs, or folders of tables (analysis/demo), which are shown as they are. Default: the run under "
            "./runs that changed last.",
            show_default=False,
        ),
    ] = None,
    study: Annotated[
        Path | None,
        typer.Option(
            "--study", help="YAML of a study, or the name of one that comes with this package. [default: overview]"
        ),
    ] = None,
    table: Annotated[
        list[Path] | None, typer.Option("--table", help="A rows.parquet or rows.csv, shown as it is; repeatable.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The file.")] = Path("report.html"),
    analyses: Annotated[
        Path, typer.Option("--analyses", help="Where the tables of runs lie, and go: the --out of `compute`.")
    ] = Path("analysis"),
    compute: Annotated[
        bool, typer.Option("--compute/--no-compute", help="Compute what is missing; else show what there is.")
    ] = True,
    live: Annotated[
        bool, typer.Option("--live", help="Serve the page while a run trains, and add checkpoints as they are sealed.")
    ] = False,
    host: Annotated[str, typer.Option("--host", help="--live: address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="--live: port; 0 for any.")] = 0,
    jobs: o.Jobs = 1,
    threads: o.Threads = 0,
    *,
    read: o.Reading,
) -> None:
    """Write one HTML file that shows runs and their tables: curves, maps, tokens, rows, and how all is made again."""
    from pico_analyze.cli.console import Console, say
    from pico_analyze.engine.pipeline import analyze
    from pico_analyze.output.text import size_text
    from pico_analyze.questions.study import load_study
    from pico_analyze.reports import Asked, Means, write

    found, notes = (None, []) if study is None else load_study(study)
    for note in notes:
        say(note)
    asked = Asked(
        sources or (),
        table or (),
        found,
        study,
        analyses,
        jobs,
        threads,
        read.options(),
        Means(analyze, _probe) if compute else None,
        growing=live,
    )
    begun = time.monotonic()
    console = Console()
    try:
        if live:
            _serve(asked, host, port, console)
            return
        path = write(asked, out, console)
    finally:
        console.close()
    typer.echo(path)
    say(f"one file, {size_text(path.stat().st_size)}, {time.monotonic() - begun:.1f} s: open it in a browser")


def _probe(study: Study, run: str, settings: Settings) -> None:
    from pico_analyze.cli.console import say
    from pico_analyze.models.behave import behave_models
    from pico_analyze.models.study_probes import probe_settings

    for location, one in probe_settings(study, [run], settings, settings.out or Path("analysis")):
        behave_models(location, one, say)


def _serve(asked: Asked, host: str, port: int, console: Console) -> None:
    """Serve until interrupted; every other second it is looked whether the run has something new."""
    from pico_analyze.cli.console import say
    from pico_analyze.errors import PicoAnalyzeError
    from pico_analyze.output.report.live import LiveServer
    from pico_analyze.reports import made, watched

    runs = watched(asked)
    with_port = ["--live", *(["--port", str(port)] if port else [])]
    command = " ".join(["pico-analyze report", *map(str, asked.sources), *with_port])
    server = LiveServer(host, port)
    try:
        seen: list[object] = []
        while True:
            now: list[object] = [run.state for run in runs]
            if now != seen:
                try:
                    changed = server.publish(made(asked, command, None if seen else console))
                except PicoAnalyzeError as error:
                    if not seen:
                        raise
                    say(f"warning: {error}")  # it is being written to: the next look tells
                    changed = False
                if not seen:
                    typer.echo(server.address)
                    say("serving; Ctrl-C ends it")
                elif changed:
                    say(f"{time.strftime('%H:%M:%S')} the page has what is new")
                seen = now
            time.sleep(EVERY_SECONDS)
    finally:
        server.close()
