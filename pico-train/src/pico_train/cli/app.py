"""The command line. Prints; everything else raises. Heavy modules are imported inside the commands."""

from __future__ import annotations

import errno
import json
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from pico_train.checkpoint import signals
from pico_train.cli import check, checkpoint, data, import_, suite
from pico_train.cli.brief import Brief
from pico_train.cli.configured import File, Name, Out, Preset, Set, Text, Words, load
from pico_train.cli.console import As, Format, Place, command_line_fault, print_table, progress_line
from pico_train.cli.doctor import doctor
from pico_train.cli.evaluate import evaluate
from pico_train.cli.fork import fork
from pico_train.cli.numbers import LARGEST_SEED, MOST, finite
from pico_train.cli.publish import publish
from pico_train.cli.summary import print_summary
from pico_train.version import __version__

ORDER = (
    *("doctor", "run", "plan", "presets", "config", "data"),
    *("verify", "inspect", "repair", "generate", "evaluate"),
    *("fork", "suite", "check", "publish", "import"),
)
"""The commands as a day's work has them: before a run, the run, what came of it, many runs, others."""
EXAMPLES = """\b
Examples:
  pico-train doctor                                  what works here, and what is missing for what
  pico-train run                                     two million parameters on Python's own library
  pico-train run --text my/texts                     the same on your own text
  pico-train plan --preset small --devices 8         what a run will take
  pico-train run --preset small --set seed=1 --name small-1
  pico-train evaluate small-1@last --tasks validation,pairs
  pico-train publish small-1 --repo me/models
"""


class InOrder(Brief):
    """The commands in `ORDER`."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names, those that `ORDER` lacks at the end."""
        del ctx
        return sorted(self.commands, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


app = typer.Typer(
    name="pico-train",
    cls=InOrder,
    help="Train small language models and keep rich checkpoints of how they learn. Begin with `pico-train run`.",
    epilog=EXAMPLES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app = typer.Typer(cls=Brief, help="Show and convert configurations.", no_args_is_help=True)
app.add_typer(config_app, name="config")
app.add_typer(data.app, name="data")
app.add_typer(import_.app, name="import")
app.add_typer(check.app, name="check")
app.add_typer(suite.app, name="suite")
app.command()(doctor)
app.command()(checkpoint.verify)
app.command()(checkpoint.inspect)
app.command()(checkpoint.repair)
app.command()(evaluate)
app.command()(fork)
app.command()(publish)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    file: File = None,
    preset: Preset = None,
    assignments: Set = None,
    text: Text = None,
    name: Name = None,
    out: Out = None,
    override: Annotated[bool, typer.Option(help="Resume under a changed configuration that would be refused.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings and the result, no progress.")] = False,
) -> None:
    """Train a model, or resume its run. With no arguments: two million parameters on Python's own library."""
    from pico_train.config.places import check_places

    config = load(file, preset, assignments, name, out, text or ())
    check_places(config)
    from pico_train.cli.progress import TerminalReporter
    from pico_train.run import train

    summary = train(config, override=override, reporter=TerminalReporter(quiet=quiet))
    if summary is not None:
        print_summary(config, summary, Words(file, preset, assignments or [], text or [], out))


@app.command()
def generate(
    place: Place,
    prompt: Annotated[str, typer.Option(help="Text to continue.")] = "def ",
    max_new_tokens: Annotated[int, typer.Option(min=1, max=MOST, help="Most tokens to add.")] = 64,
    temperature: Annotated[
        float, typer.Option(min=0.0, max=1e6, callback=finite, help="0 takes the likeliest token each time.")
    ] = 0.8,
    top_k: Annotated[int | None, typer.Option(min=1, max=MOST, help="Sample among the k likeliest tokens.")] = None,
    top_p: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, callback=finite, help="Sample among tokens up to this probability."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of the draws.")] = 0,
    output: As = Format.table,
) -> None:
    """Sample from a checkpoint."""
    from pico_train.addresses import open_run, sealed_checkpoint
    from pico_train.model.sampling import continue_text

    found = open_run(place, "model", progress_line())
    text = continue_text(
        sealed_checkpoint(found.run_dir, found.step),
        prompt,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
    )
    if output is Format.json:
        typer.echo(json.dumps({"run": str(found.run_dir), "step": found.step, "prompt": prompt, "continuation": text}))
    else:
        typer.echo(prompt + text)


@app.command()
def plan(
    file: File = None,
    preset: Preset = None,
    assignments: Set = None,
    devices: Annotated[
        int | None, typer.Option(min=1, max=MOST, help="Devices in all. [default: as configured, or 1]")
    ] = None,
    peak_tflops: Annotated[
        float | None,
        typer.Option(min=0.001, max=1e9, callback=finite, help="Dense peak of one device at the run's precision."),
    ] = None,
    mfu: Annotated[
        float, typer.Option(min=0.001, max=1.0, callback=finite, help="Part of the peak that is reached.")
    ] = 0.4,
    output: As = Format.table,
) -> None:
    """What a run will take: parameters, FLOPs, memory, time, disk, commits. Nothing is allocated."""
    config = load(file, preset, assignments, None, None)
    from pico_train import plan as planning

    report = planning.plan(config, devices=devices, peak_tflops=peak_tflops, mfu=mfu)
    if output is Format.json:
        typer.echo(report.model_dump_json(indent=1))
    else:
        print_table(planning.as_table(report))


@app.command()
def presets(output: As = Format.table) -> None:
    """The presets, and what is in them."""
    from pico_train.config import layers

    rows = []
    for name in layers.presets():
        config = layers.load_config(preset=name)
        spec = config.spec
        row: dict[str, Any] = {"preset": name, "parameters": spec.n_params}
        row |= {
            field: getattr(spec, field)
            for field in ("d_model", "n_layers", "n_heads", "n_kv_heads", "d_ff", "vocab_size")
        }
        row |= {
            "seq_len": config.data.seq_len,
            "batch_size": config.training.batch_size,
            "max_steps": config.training.max_steps,
        }
        rows.append(row | {"data": config.data.repo or config.data.source})
    if output is Format.json:
        typer.echo(json.dumps(rows, indent=1))
    else:
        print_table(
            [{key: f"{value:,}" if key == "parameters" else value for key, value in row.items()} for row in rows]
        )


@config_app.command("show")
def config_show(
    file: File = None,
    preset: Preset = None,
    assignments: Set = None,
    name: Name = None,
    out: Out = None,
    explain: Annotated[bool, typer.Option(help="Say what each setting means and accepts.")] = False,
    output: As = Format.table,
) -> None:
    """The resolved configuration; as YAML that `pico-train run FILE` takes, or explained."""
    from pico_train.config import describe, layers

    config = load(file, preset, assignments, name, out)
    if output is Format.json:
        typer.echo(config.model_dump_json(indent=1))
    elif explain:
        helps = describe.fields()
        for path, text in helps.items():
            value: Any = config
            for part in path.split("."):
                value = getattr(value, part)
            shown = value.model_dump(mode="json") if hasattr(value, "model_dump") else value
            typer.echo(f"{path} = {shown}  ({describe.choices(path)})\n    {text}")
    else:
        typer.echo(layers.to_yaml(config), nl=False)


@config_app.command("convert")
def config_convert(file: Annotated[Path, typer.Argument(help="The training YAML of a run of Pico 1.0.")]) -> None:
    """Pico 1.0's own training YAML as one that `pico-train run FILE` takes; on stderr, what will differ."""
    from pico_schema import yaml_text
    from pico_train.config import layers, pico_v1

    name = re.sub(r"[^A-Za-z0-9_-]+", "-", file.stem).strip("-") or "pico-v1"
    converted = pico_v1.convert(layers.read_file(file).value, where=str(file), name=name)
    typer.echo(yaml_text.dump(converted.settings), nl=False)
    for sentence in converted.differences:
        typer.echo(f"differs: {sentence}", err=True)


def main() -> None:
    """Run the command line: errors become one sentence on stderr and their exit code."""
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    if not os.environ.get("PICO_DEBUG"):
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # torch logs the C++ frames of errors that we say
    with signals.StopRequest() as around:
        around.defer()  # so that the first signal decides the exit code
        try:
            _run_app()
        except SystemExit as ended:
            if around.received is not None:
                signals.leave(ended.code)
            raise


def _run_app() -> None:
    try:
        with signals.StopRequest():
            sys.exit(app(standalone_mode=False))
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # the help, for a command that was given nothing
            typer.echo(error, err=True)
            sys.exit(2)
        if (fault := command_line_fault(error)) is not None:
            _end(fault, 2)
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            _end(f"{str(error.filename)[:80]}…: this is too long for the name of a file", 2)
        code: int = getattr(error, "exit_code", 0)
        if code and getattr(error, "everywhere", False) and _rank() not in (None, "0"):
            sys.exit(code)  # rank 0 says it
        if code:
            _end(str(error), code)
        if os.environ.get("PICO_DEBUG"):
            raise
        _end(f"{type(error).__name__}: {error} (set PICO_DEBUG=1 for the traceback)", 1)


def _rank() -> str | None:
    """This process's rank, where the environment says that there are several."""
    env = os.environ
    if "SLURM_PROCID" in env and _several(env.get("SLURM_NTASKS")):
        return env["SLURM_PROCID"]
    return env.get("RANK") or env.get("LOCAL_RANK") if _several(env.get("WORLD_SIZE")) else None


def _several(count: str | None) -> bool:
    return count is not None and re.fullmatch("[0-9]{1,9}", count) is not None and int(count) > 1


def _end(message: str, code: int) -> None:
    rank = _rank()
    who = f"rank {rank}: " if rank else ""
    sys.stderr.write(f"error: {who}{message}\n")
    sys.stderr.flush()
    sys.exit(code)
