"""The commands `verify`, `inspect` and `repair`: what they print. Mounted by `app`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pico_train.cli.console import As, Format, Place, print_table, progress_line
from pico_train.counting import counted

if TYPE_CHECKING:
    from pico_train.checkpoint.verify import VerifyReport


def verify(place: Place, output: As = Format.table) -> None:
    """Re-hash checkpoints: report what is missing, truncated, altered, unexpected or held twice (exit code 3)."""
    from pico_train.addresses import open_run
    from pico_train.checkpoint.verify import verify_run

    found = open_run(place, "everything", progress_line())
    watched = sys.stderr.isatty()

    def progress(number: int, path: str) -> None:
        if watched:
            typer.echo(f"\r\x1b[Kstep {number}: {path}", err=True, nl=False)

    report = verify_run(found.run_dir, step=found.step, progress=progress)
    if watched:
        typer.echo("\r\x1b[K", err=True, nl=False)
    if output is Format.json:
        typer.echo(json.dumps(report.as_json(), indent=1))
    else:
        _print_report(report)
    if not report.sound:
        raise typer.Exit(3)


def _print_report(report: VerifyReport) -> None:
    if report.problems:
        print_table(
            [{"step": p.step, "problem": p.problem, "file": p.path, "detail": p.detail} for p in report.problems]
        )
    checked = f"{counted(len(report.steps), 'checkpoint')}, {counted(report.n_files, 'file')}, {_size(report.n_bytes)}"
    pruned = f"; training state of {counted(len(report.pruned), 'step')} removed by policy" if report.pruned else ""
    verdict = "sound" if report.sound else counted(len(report.problems), "problem")
    for sentence in report.set_aside:
        typer.echo(sentence)
    for sentence in report.accepted:
        typer.echo(f"accepted loss: {sentence}")
    typer.echo(f"{report.name}: {checked}{pruned}: {verdict}")


def repair(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run: its name under ./runs, or its directory.")],
    accept_losses: Annotated[
        bool, typer.Option("--accept-losses", help="Take what is lost for good out of the run's history.")
    ] = False,
    output: As = Format.table,
) -> None:
    """Rebuild what a run's directory has lost (run.json, its index, shared files) from its sealed checkpoints."""
    from pico_schema import layout
    from pico_train.addresses import RUNS
    from pico_train.checkpoint.repair import repair_run

    there = [path for path in (Path(run), RUNS / run) if path.is_dir()]
    run_dir = next((path for path in there if (path / layout.CHECKPOINTS).is_dir()), Path(run))
    report = repair_run(run_dir, accept_losses=accept_losses)
    if output is Format.json:
        typer.echo(json.dumps(report.as_json(), indent=1))
    else:
        for sentence in report.rebuilt:
            typer.echo(f"rebuilt {sentence}")
        for sentence in report.not_rebuilt:
            typer.echo(f"not rebuilt: {sentence}")
        for sentence in report.accepted:
            typer.echo(f"accepted: {sentence}")
        assert report.verified is not None
        _print_report(report.verified)
        if not report.sound:
            typer.echo(
                f"put back what is missing, or accept its loss: pico-train repair {run_dir} --accept-losses", err=True
            )
    if not report.sound:
        raise typer.Exit(3)


def inspect(place: Place, output: As = Format.table) -> None:
    """What a run's checkpoints hold; with @step-N, everything that one of them holds."""
    from pico_train.addresses import open_run
    from pico_train.checkpoint.inspect import inspect_checkpoint, inspect_run

    retrying = progress_line()
    found = open_run(place, on_retry=retrying)
    step = found.step
    if step is None:
        content = inspect_run(found.run_dir, as_listed=found.on_hub)
    else:
        run_dir = open_run(place, "captures", retrying).run_dir
        content = inspect_checkpoint(run_dir, step, as_listed=found.on_hub)
    if output is Format.json:
        typer.echo(json.dumps(content, indent=1, default=str))
    elif step is None:
        _print_run(content)
    else:
        _print_checkpoint(content)


def _print_run(run: dict[str, Any]) -> None:
    seed = "unknown" if run["seed"] is None else run["seed"]
    typer.echo(f"run     {run['name']} ({run['id']}), begun {run['created']} with {run['producer']}, seed {seed}")
    typer.echo(f"model   {_model(run)}")
    typer.echo(f"data    {_data(run)}")
    if (suite := run["suite"]) is not None:
        typer.echo(f"suite   {suite['name']}: {', '.join(f'{axis} {at}' for axis, at in suite['coordinates'].items())}")
    if (parent := run["parent"]) is not None:
        where = f"{parent['run_name']}@{parent['step']} ({parent['location']})"
        typer.echo(f"forked  from {where}, optimizer {parent['optimizer']}, data {parent['data']}")
    for change in run["changes"]:
        typer.echo(f"changed {change['field']}: {change['before']} → {change['after']} from step {change['step']}")
    rows = [
        {
            "step": line["step"],
            "tokens": f"{line['tokens']:,}" if line["tokens"] is not None else "",
            "train loss": _number(line.get("train_loss")),
            "val loss": _number(line.get("val_loss")),
            "size": _size(line["bytes"]),
            "holds": line["holds"],
        }
        for line in run["checkpoints"]
    ]
    print_table(rows)
    sealed = [line for line in run["checkpoints"] if line["bytes"] is not None]
    typer.echo(f"{counted(len(sealed), 'checkpoint')}, {_size(sum(line['bytes'] for line in sealed))}")
    for sentence in run["losses"]:
        typer.echo(f"lost: {sentence}")
    for sentence in run["accepted_losses"]:
        typer.echo(f"accepted loss: {sentence}")
    for sentence in run["set_aside"]:
        typer.echo(sentence)


def _print_checkpoint(content: dict[str, Any]) -> None:
    tokens = content["tokens_seen"]
    step = f"step {content['step']}, {'tokens unknown' if tokens is None else counted(tokens, 'token')}"
    typer.echo(f"run     {content['run_name']} ({content['run_id']}), {step}")
    producer = content["producer"]
    typer.echo(
        f"sealed  {content['created']} by {producer['name']} {producer['version']}, schema {content['schema_version']}"
    )
    typer.echo(f"model   {_model(content)}, stored as {content['weights_dtype']}")
    typer.echo(f"data    {_data(content)}")
    if (cursor := content["cursor"]) is not None:
        typer.echo(
            f"cursor  epoch {cursor['epoch']}, row {cursor['row']}, batches of {counted(cursor['batch_size'], 'row')}"
        )
    for name, value in content["metrics"].items():
        typer.echo(f"{name:<8}{_number(value)}" if len(name) < 8 else f"{name} {_number(value)}")
    for capture in content["captures"]:
        positions = capture["positions"]
        where = f"position {positions[0]}" if len(positions) == 1 else counted(len(positions), "position")
        typer.echo(
            f"{capture['split']:<8}{counted(len(capture['activations']), 'activation')} of "
            f"{counted(capture['n_samples'], 'sample')} "
            f"({counted(capture['n_rows'], 'row')}, {where}), {counted(len(capture['gradients']), 'gradient')}, "
            f"{capture['dtype']}"
        )
    if content["pruned"]:
        typer.echo("the training state was removed by the run's policy")
    typer.echo("")
    print_table([{"file": path, "size": _size(size)} for path, size in content["files"].items()])
    for path, tensors in content["tensors"].items():
        typer.echo("")
        print_table([{path: name, "tensor": shape} for name, shape in tensors.items()])


def _model(content: dict[str, Any]) -> str:
    model, number = content["model"], content["parameters"]
    size = f"a {model['model_type']} of another maker" if number is None else f"{number:,} parameters"
    return (
        f"{size}: d_model {model['d_model']}, {counted(model['n_layers'], 'layer')}, "
        f"{counted(model['n_heads'], 'head')} ({model['n_kv_heads']} key/value), vocabulary {model['vocab_size']:,}"
    )


def _data(content: dict[str, Any]) -> str:
    data = content["data"]
    return f"{data['source']}, {counted(data['n_rows'], 'row')} of {data['seq_len']} tokens, {data['order']}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _size(n: int | None) -> str:
    if n is None:
        return ""
    size = float(n)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
