"""The command `plot`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pico_analyze.cli import options as o

if TYPE_CHECKING:
    from pico_analyze.engine.outcome import Outcome
    from pico_analyze.engine.settings import Settings


class KindOption(StrEnum):
    """What is drawn."""

    lines = "lines"
    heads = "heads"
    small = "small"
    layers = "layers"
    steps = "steps"
    beside = "beside"
    losses = "losses"
    spectra = "spectra"


class AxisOption(StrEnum):
    """The horizontal axis."""

    step = "step"
    tokens = "tokens"


class WidthOption(StrEnum):
    """Size of a figure."""

    screen = "screen"
    column = "column"
    page = "page"


def plot(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN|TABLE]...",
            help="Runs that were analyzed, or folders of tables (analysis/demo). Default: the run under ./runs that "
            "changed last.",
            show_default=False,
        ),
    ] = None,
    kind: Annotated[
        KindOption,
        typer.Option(
            "--kind",
            help="lines over steps; heads (layer × head heatmaps); small (a panel each head); layers, steps (heatmaps "
            "of comparisons); beside (above results of evaluation); losses; spectra (of weights).",
        ),
    ] = KindOption.lines,
    hue: Annotated[
        str | None,
        typer.Option(
            "--hue",
            help="What colours tell apart: layer, head, run, site, split, metric, or an axis of a suite, such as seed. "
            "[default: layers]",
        ),
    ] = None,
    facet: Annotated[str | None, typer.Option("--facet", help="What panels tell apart. [default: sites]")] = None,
    over: Annotated[
        str | None,
        typer.Option("--over", help="Mean and standard deviation over these, such as runs, or the seed of a suite."),
    ] = None,
    x: Annotated[AxisOption, typer.Option("--x", help="The horizontal axis.")] = AxisOption.step,
    metric: Annotated[list[str] | None, typer.Option("--metric", help="Metric; repeatable.")] = None,
    component: Annotated[list[str] | None, typer.Option("--component", "-c", help="Component; repeatable.")] = None,
    data: Annotated[
        list[str] | None, typer.Option("--data", help="weights, activations, gradients or behaviour; repeatable.")
    ] = None,
    split: Annotated[list[str] | None, typer.Option("--split", help="val or train; repeatable.")] = None,
    site: o.Sites = None,
    layers: o.Layers = None,
    heads: Annotated[str | None, typer.Option("--heads", help="0,3,5-7. [default: all]")] = None,
    steps: Annotated[str | None, typer.Option("--steps", help="0,8,16-64, first, last. [default: all]")] = None,
    target: Annotated[
        str | None, typer.Option("--target", help="Comparisons with this STEP, RUN or RUN@STEP only.")
    ] = None,
    param: Annotated[
        list[str] | None, typer.Option("--param", "-p", help="Rows with this parameter, k=v; repeatable.")
    ] = None,
    evaluation: Annotated[
        list[str] | None,
        typer.Option(
            "--evaluation", help="Results drawn beside, such as validation.perplexity; repeatable. [default: val_loss]"
        ),
    ] = None,
    order: Annotated[bool, typer.Option("--order", help="Heatmaps of steps in the order of a clustering.")] = False,
    width: Annotated[
        WidthOption, typer.Option("--width", help="screen; or a journal's column (85 mm) or page (175 mm).")
    ] = WidthOption.screen,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="The file: .png, .svg or .pdf. [default: a name that tells the selection, in ANALYSES/figures]",
        ),
    ] = None,
    analyses: Annotated[
        Path, typer.Option("--analyses", help="Where the tables of runs lie: the --out of `compute`.")
    ] = Path("analysis"),
    *,
    read: o.Reading,
) -> None:
    """Draw a table or a run: a figure for paper or screen, with a CSV of exactly its values beside it."""
    from pico_analyze.cli.console import say
    from pico_analyze.output.figures.drawing import write
    from pico_analyze.output.figures.request import Request, Selected
    from pico_analyze.output.figures.sources import sources as found

    request = Request(
        kind.value,
        hue=hue,
        facet=facet,
        over=over,
        x=x.value,
        width=width.value,
        order=order,
        evaluation=tuple(evaluation or ()),
    )
    selected = Selected(
        tuple(metric or ()),
        tuple(component or ()),
        tuple(data or ()),
        tuple(split or ()),
        tuple(site or ()),
        layers,
        heads,
        steps,
        target,
        dict(o.parameters(param)),
    )
    written = write(found(sources or (), analyses, read.options()), selected, request, out, analyses / "figures")
    for path in written:
        typer.echo(path)
    say(f"drawn; its values are in {written[-1].name}")


def check_form(file: Path) -> None:
    """Refuse a file whose name ends with no known format, before anything is computed."""
    from pico_analyze.output.figures.saving import form

    form(file)


def draw_rows(outcome: Outcome, pairs: str, file: Path, settings: Settings) -> list[Path]:
    """Draw the rows of an analysis, those and no others of their tables; gives the picture alone.

    Args:
        outcome: Rows, written in tables.
        pairs: What was compared: target, steps or layers.
        file: The file of the figure.
        settings: Where tables are.

    Raises:
        UsageError: the rows are of several questions.
    """
    from pico_analyze.cli.console import say
    from pico_analyze.output.figures.drawing import written
    from pico_analyze.output.figures.request import Kind, Request, Selected

    rows = outcome.frame

    def named(column: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(str(value) for value in rows[column].dropna()))

    def numbers(column: str) -> str | None:
        return ",".join(str(number) for number in sorted({int(value) for value in rows[column].dropna()})) or None

    kinds: dict[str, Kind] = {"layers": "layers", "steps": "steps"}
    targets = rows[["target_run", "target_step"]].dropna().drop_duplicates()
    selected = Selected(
        metric=named("metric"),
        component=named("component"),
        data=named("data"),
        split=named("split"),
        site=named("site"),
        layers=numbers("layer"),
        steps=numbers("step"),
        target="@".join(map(str, targets.iloc[0])) if len(targets) == 1 else None,
    )
    tables = [str(directory) for directory in outcome.directories.values()]
    request = Request(kinds.get(pairs, "lines"))
    drawn = written(rows, tables, selected, request, file, settings.out or Path("analysis"))
    say(f"drawn in {file}; its values are in {drawn[-1].name}")
    return [file]
