"""The command line: `compute`, `dynamics`, `run`, `audit`, `capture`, `convert`, `behave`, `plot`, `report`,
`list`, `metrics`, `components`, `probes`.

Only this module, `audit.py`, `plot.py`, `report.py`, `show.py`, `running.py`, `behaving.py` and `console.py` print.
Heavy packages are imported inside the commands.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from pico_analyze.cli import behaving, running, show
from pico_analyze.cli import options as o
from pico_analyze.cli.audit import audit
from pico_analyze.cli.groups import with_groups
from pico_analyze.cli.plot import check_form, draw_rows
from pico_analyze.cli.plot import plot as plot_command
from pico_analyze.cli.report import report
from pico_analyze.version import __version__

if TYPE_CHECKING:
    from pico_analyze.cli.console import Console
    from pico_analyze.engine.outcome import Outcome
    from pico_analyze.engine.settings import Settings
    from pico_analyze.models.behave import Behaved
    from pico_analyze.questions.question import Question
    from pico_analyze.questions.study import Study

# Several BLAS threads per small matrix spin more than they compute; the work is shared out by layers instead.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

_INTERRUPTED = "interrupted: what is done is kept, and the same command goes on from there"

ORDER = (
    *("list", "audit", "run", "compute", "dynamics", "evaluations"),
    *("plot", "report", "capture", "convert", "behave", "metrics", "components", "probes"),
)
"""The commands as a day's work has them: what there is, what is measured, what is drawn, models, what can be asked."""
EXAMPLES = """\b
Examples:
  pico-analyze list                                  runs under ./runs, and their checkpoints
  pico-analyze run                                   what happened in the newest of them
  pico-analyze compute cka                           each of its checkpoints compared with the last
  pico-analyze compute per demo --component ov_circuit --data weights
  pico-analyze plot demo --metric cka                a figure, with its values as CSV
  pico-analyze report demo                           all of it on one page
  pico-analyze metrics cka                           what a metric is: formula, range, reference
"""


class InOrder(TyperGroup):
    """The commands in `ORDER`, each with what its help says before a colon, none cut off."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names, those that `ORDER` lacks at the end."""
        del ctx
        return sorted(self.commands, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The list of commands."""
        found = [(name, self.commands[name].help or "") for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, re.split(r"[:;.](?=\s|$)", " ".join(text.split()))[0]) for name, text in found])


app = typer.Typer(
    name="pico-analyze",
    cls=InOrder,
    epilog=EXAMPLES,
    help="Measure and draw what changes inside a language model while it learns. `pico-analyze compute cka` compares "
    "each checkpoint of the newest run under ./runs with its last one.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


@app.command()
@with_groups
def compute(
    words: o.MetricsAndRuns,
    component: o.Component = ["simple"],  # noqa: B006 - typer copies it
    data: o.DataOption = None,
    split: o.Split = ["val"],  # noqa: B006
    site: o.Sites = None,
    tensor: o.Tensors = None,
    layers: o.Layers = None,
    heads: o.Heads = True,
    steps: o.Steps = "all",
    target: o.TargetOption = None,
    pairs: o.Pairs = o.PairsOption.target,
    between_runs: o.Between = False,
    metric_param: o.MetricParams = None,
    component_param: o.ComponentParams = None,
    bootstrap: o.Bootstrap = 0,
    null: o.Null = None,
    draws: o.Draws = 100,
    seed: o.Seed = 0,
    out: o.Out = Path("analysis"),
    form: o.As = o.Form.table,
    plot: o.Plot = True,
    figure: Annotated[
        Path | None,
        typer.Option(
            "--figure",
            help="Also draw these rows into this file (.png, .svg or .pdf), with a CSV of its values; "
            "`pico-analyze plot` draws them in other ways.",
        ),
    ] = None,
    *,
    work: o.Work,
    shard: o.ShardOption = None,
    read: o.Reading,
    wandb: o.Wandb = None,
    wandb_project: o.WandbProject = "pico",
) -> None:
    """Compute metrics over the checkpoints of a run: table on stdout, rows as Parquet and CSV, pictures as PNG."""
    from pico_analyze.questions.builder import asked, measurement

    if figure is not None:
        check_form(figure)
    metrics, runs = o.metrics_and_runs(words)
    wanted = measurement(
        metrics,
        component=component,
        data=data,
        split=split,
        sites=site,
        tensors=tensor,
        layers=layers,
        heads=heads,
        steps=steps,
        target=target,
        pairs=pairs.value,
        between_runs=between_runs,
        metric_params=o.parameters(metric_param, "metric"),
        component_params=o.parameters(component_param, "component"),
        bootstrap=bootstrap,
        null=null.value if null else None,
        draws=draws,
    )
    how = work.settings(out, read, shard)
    outcome = _answer(asked(wanted, runs, seed=seed), how, form, plot)
    if figure is not None and outcome.shard is None:
        outcome.figures += draw_rows(outcome, pairs.value, figure, how)
    _log(outcome, wandb, wandb_project, "-".join(dict.fromkeys(metrics)))


class _Interrupted(BaseException):
    """KeyboardInterrupt during an analysis, in a form that typer does not take for its own."""


@contextmanager
def _console() -> Iterator[Console]:
    """A console for the time of an analysis."""
    from pico_analyze.cli.console import Console

    console = Console()
    try:
        yield console
    except KeyboardInterrupt:
        raise _Interrupted from None
    finally:
        console.close()


def _answer(
    questions: Sequence[tuple[str, Question]],
    settings: Settings,
    form: o.Form,
    plot: bool,
    study: tuple[Study, Sequence[Behaved]] | None = None,
    whole: bool = False,
) -> Outcome:
    """Carry out, print, draw, conclude; with the rows of a study's probes, and what it tells, where it has some.

    Of a study a summary is printed, unless its tables are asked for whole.
    """
    from pico_analyze.cli.console import conclude
    from pico_analyze.engine.pipeline import analyze

    begun = time.monotonic()
    with _console() as console:
        outcome = analyze(questions, settings, console)
    if outcome.shard is not None:  # a table or picture of a share would look like the whole
        conclude(outcome, [], time.monotonic() - begun)
        return outcome
    from pico_analyze.cli.studying import probed_frame, summary, tables, tell
    from pico_analyze.output.text import frame_as

    behaved = study[1] if study is not None else ()
    texts, written = ([], []) if study is None else tell(study[0], outcome, behaved, plot=plot)
    if behaved:
        outcome.frame = probed_frame(outcome, behaved)
    if form is o.Form.table and study is not None and not whole:
        typer.echo("\n\n".join([summary(outcome, settings.read), *texts]))
    elif form is o.Form.table:
        typer.echo("\n\n".join([*tables(outcome, behaved), *texts]))
    else:
        typer.echo(frame_as(outcome.frame, "json" if form is o.Form.json else "csv"))
    written = [*(_draw(outcome) if plot else []), *written]
    conclude(outcome, [path.name for path in written], time.monotonic() - begun)
    outcome.figures = written
    return outcome


def _draw(outcome: Outcome) -> list[Path]:
    from pico_analyze.output.plots import draw

    written = [
        path
        for answer, rows in outcome.answered()
        for path in draw(rows, outcome.directories[answer.location], chosen=answer.chosen)
    ]
    return list(dict.fromkeys(written))


def _log(outcome: Outcome, mode: o.WandbMode | None, project: str, name: str) -> None:
    if mode is None or outcome.shard is not None:
        return
    from pico_analyze.cli.console import say
    from pico_analyze.output.wandb import log_analysis

    entity, _, project = project.rpartition("/")
    where = log_analysis(
        outcome.frame, outcome.figures, project=project, entity=entity or None, mode=mode.value, name=name
    )
    say(f"logged to Weights & Biases{f', offline, in {where}: `wandb sync` sends it' if where else ''}")


@app.command("run")
@with_groups
def run_study(
    file: Annotated[
        Path,
        typer.Argument(
            help="YAML of a study; one of pico-analyze 1.0 is accepted too. Or the name of a study that comes with "
            "this package: induction, or overview, which each run's size chooses."
        ),
    ] = Path("overview"),
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]...", help="Runs, in place of those in the file.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Directory for the results. [default: analysis]")] = None,
    form: o.As = o.Form.table,
    tables: Annotated[
        bool, typer.Option("--tables", help="Print each table, steps down and layers across, in place of a summary.")
    ] = False,
    plot: o.Plot = True,
    *,
    work: o.Work,
    shard: o.ShardOption = None,
    read: o.Reading,
    wandb: o.Wandb = None,
    wandb_project: o.WandbProject = "pico",
) -> None:
    """Carry out a whole study, and tell what stands out: several metrics, components, splits and runs in one pass."""
    from pico_analyze.cli.console import say
    from pico_analyze.models.behave import behave_models
    from pico_analyze.models.study_probes import probe_settings
    from pico_analyze.questions.study import load_studies

    studies, notes = load_studies(file, runs or (), read.options())
    for note in notes:
        say(note)
    study = studies[0][0]
    how = work.settings(out or Path(study.out), read, shard)
    questions = [pair for one, of in studies for pair in one.asked(of)]
    probed = [pair for one, of in studies for pair in probe_settings(one, of, how, out or Path(study.out))]
    behaved = [behave_models(location, one, say) for location, one in probed]
    outcome = _answer(questions, how, form, plot, (study, behaved), whole=tables)
    _log(outcome, wandb, wandb_project, study.name)


@app.command()
@with_groups
def dynamics(
    words: o.MetricsAndRuns,
    tau: o.Tau = 0.9,
    evaluation: Annotated[
        str | None,
        typer.Option("--evaluation", help="Correlate with this result, such as val_loss or eval/pairs/accuracy."),
    ] = None,
    component: o.Component = ["simple"],  # noqa: B006
    data: o.DataOption = None,
    split: o.Split = ["val"],  # noqa: B006
    site: o.Sites = None,
    tensor: o.Tensors = None,
    layers: o.Layers = None,
    heads: o.Heads = False,
    steps: o.Steps = "all",
    target: o.TargetOption = None,
    metric_param: o.MetricParams = None,
    component_param: o.ComponentParams = None,
    out: o.Out = Path("analysis"),
    form: o.As = o.Form.table,
    *,
    work: o.Work,
    read: o.Reading,
) -> None:
    """Summarise how metrics move: convergence step, fastest change, correlation with evaluation results."""
    from pico_analyze.api import analyze_dynamics
    from pico_analyze.cli.console import conclude, say
    from pico_analyze.output.dynamics_text import FILE, summary_as, trend_warning
    from pico_analyze.questions.builder import asked, measurement

    begun = time.monotonic()
    metrics, runs = o.metrics_and_runs(words)
    wanted = measurement(
        metrics,
        component=component,
        data=data,
        split=split,
        sites=site,
        tensors=tensor,
        layers=layers,
        heads=heads,
        steps=steps,
        target=target,
        metric_params=o.parameters(metric_param, "metric"),
        component_params=o.parameters(component_param, "component"),
    )
    questions = asked(wanted, runs)
    how = work.settings(out, read)
    with _console() as console:
        table, outcome = analyze_dynamics(questions, how, tau, evaluation, console)
    typer.echo(summary_as(table, form.value))
    if evaluation is not None and (warning := trend_warning(table, evaluation)) is not None:
        say(warning)
    if evaluation is None:
        say("no evaluation is correlated: name one with --evaluation, such as val_loss")
    conclude(outcome, [FILE], time.monotonic() - begun)


app.command()(with_groups(audit))
app.command()(with_groups(running.capture))
app.command()(with_groups(running.convert))
app.command()(with_groups(behaving.behave))
app.command("plot")(with_groups(plot_command))
app.command()(with_groups(report))
app.command("list")(with_groups(show.list_runs))
app.command()(with_groups(show.evaluations))
app.command()(show.metrics)
app.command()(show.components)
app.command()(behaving.probes)


def main() -> None:
    """Run the command line: errors become one sentence on stderr and their exit code, signals end it in time."""
    from pico_analyze.engine.signals import Signals

    with Signals(_INTERRUPTED) as signals:
        try:
            _run()
        except BaseException as error:
            if signals.first is not None:
                signals.leave()  # without waiting for threads, which Python would do
            if isinstance(error, _Interrupted | KeyboardInterrupt):
                _end(_INTERRUPTED, 130)
            raise


def _run() -> None:
    try:
        sys.exit(app(standalone_mode=False))
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(error, err=True)
            sys.exit(2)
        from pico_analyze.cli.console import command_line_fault

        if (fault := command_line_fault(error)) is not None:
            _end(fault, 2)
        code = getattr(error, "exit_code", None)  # ours, and those of pico-schema
        if isinstance(code, int):
            _end(str(error), code)
        if os.environ.get("PICO_DEBUG"):
            raise
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            _end(f"{str(error.filename)[:80]}…: this is too long for the name of a file", 2)
        if isinstance(error, OSError):
            _end(f"{error.filename or 'a file'}: {error.strerror or error}: check the disk", 4)
        _end(f"{type(error).__name__}: {error} (set PICO_DEBUG=1 for the traceback)", 1)


def _end(message: str, code: int) -> None:
    sys.stderr.write(f"error: {message}\n")
    sys.stderr.flush()
    sys.exit(code)
