"""The commands about what models do: `behave`, `probes`."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pico_analyze.cli import options as o

if TYPE_CHECKING:
    from pico_analyze.models.behave_settings import BehaveSettings


def _as_they_come(run: str, settings: BehaveSettings) -> str:
    """Probe steps as standard input names them, until it ends; all of them, as a selection.

    Raises:
        UsageError: a line that is no step, or an end before any.
    """
    from pico_analyze.cli.console import say
    from pico_analyze.engine.tasks import Shard
    from pico_analyze.errors import UsageError
    from pico_analyze.models.behave import behave_models

    if settings.shard is not None:
        raise UsageError("--steps - and --shard exclude each other: steps that come are not known beforehand")
    alone = Shard(1, 1)  # what compares steps is left to the end
    named: set[int] = set()
    for line in sys.stdin:
        text = line.strip()
        if not text:
            continue
        if not text.isascii() or not text.isdigit() or len(text) > 18:
            raise UsageError(f"--steps -: {text[:40]!r} is no step: give one a line")
        if int(text) not in named:
            behave_models(run, replace(settings, steps=text, shard=alone), say)
        named.add(int(text))
    if not named:
        raise UsageError("--steps -: standard input named no step")
    return ",".join(map(str, sorted(named)))


def behave(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN]",
            help="A name under ./runs, a path, or hf://org/name; RUN@STEP for one step. Default: the run under ./runs "
            "that changed last.",
            show_default=False,
        ),
    ] = None,
    probe: Annotated[
        list[str] | None,
        typer.Option("--probe", help="Probes, with commas or repeated; see `pico-analyze probes`. [default: all]"),
    ] = None,
    probe_param: Annotated[
        list[str] | None,
        typer.Option("--probe-param", help="k=v, or PROBE.k=v for one of several, such as llc.chains=8; repeatable."),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            help="Rows: text, token ids, or a run of Pico, as for capture. [default: RUN's own validation rows, or "
            "text of Python's library]",
        ),
    ] = None,
    steps: Annotated[
        str,
        typer.Option(
            "--steps",
            help="0,8,16-64, 0-1000:100, first, last; or - for steps from standard input, one a line, as they come.",
        ),
    ] = "all",
    rows: Annotated[
        int | None,
        typer.Option("--rows", min=1, max=1_000_000, help="Rows, evenly spaced. [default: 32 of text, all ids]"),
    ] = None,
    seq_len: Annotated[
        int | None,
        typer.Option(
            "--seq-len",
            min=1,
            max=1_000_000,
            help="Tokens that are read of a row cut from text. [default: 512, or as many as the model reads]",
        ),
    ] = None,
    continuation: Annotated[
        int | None,
        typer.Option(
            "--continuation",
            min=1,
            max=1_000_000,
            help="Tokens of prompt, and of continuation, for memorisation. [default: 32, or half a row]",
        ),
    ] = None,
    target: Annotated[
        str, typer.Option("--target", help="What outputs are compared with: last, first, STEP, or RUN (its same step).")
    ] = "last",
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=o.LARGEST_SEED, help="Seed of the random tokens of induction.")
    ] = 0,
    out: o.Out = Path("analysis"),
    form: o.As = o.Form.table,
    plot: o.Plot = True,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    dtype: Annotated[o.DTypeOption, typer.Option("--dtype", help="What models compute in.")] = o.DTypeOption.float32,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, max=65536, help="Rows of a forward pass.")] = 8,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, max=1024, help="Processes, each with a model in memory.")
    ] = 1,
    shard: o.ShardOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Begin curvature and llc, whatever they cost.")] = False,
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget",
            min=0,
            max=1e6,
            callback=o.finite_or_none,
            help="Begin them if they take so many minutes.",
        ),
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run the code that lies beside a model's weights.")
    ] = False,
    fresh: o.Fresh = False,
    *,
    read: o.Reading,
) -> None:
    """Measure what the models of a run do: induction, attention, losses of tokens, logit lens, outputs (extra
    [torch]); by name also curvature and llc (extra [curvature])."""
    from pico_analyze.cli.console import say, table_width
    from pico_analyze.counting import counted
    from pico_analyze.engine.tasks import Shard
    from pico_analyze.models.behave import behave_models
    from pico_analyze.models.behave_settings import behave_settings
    from pico_analyze.output.behaviour import behaviour_pictures, behaviour_text
    from pico_analyze.stores.opening import newest_run

    begun = time.monotonic()
    settings = behave_settings(
        out=out,
        probes=probe,
        probe_params=o.parameters(probe_param, "probe"),
        yes=yes,
        budget=budget,
        data=data,
        steps="all" if steps == "-" else steps,
        target=target,
        dtype=dtype.value,
        rows=rows,
        seq_len=seq_len,
        continuation=continuation,
        seed=seed,
        device=device,
        batch_size=batch_size,
        jobs=jobs,
        shard=None if shard is None else Shard.parse(shard),
        trust_remote_code=trust_remote_code,
        fresh=fresh,
        read=read.options(),
    )
    name = run or str(newest_run())
    if steps == "-":
        settings = replace(settings, steps=_as_they_come(name, settings))
    done = behave_models(name, settings, say)
    kept = f", {len(done.kept)} already there" if done.kept else ""
    if done.shard is not None:  # a table or picture of a share would look like the whole
        say(
            f"shard {done.shard}: {counted(len(done.steps), 'step')} probed{kept} ({counted(len(done.frame), 'row')}, "
            f"{time.monotonic() - begun:.1f} s), as parts in {done.directory}: when all shards are done, the same "
            "command without --shard brings them together"
        )
        return
    typer.echo(behaviour_text(done.frame, form.value, table_width()))
    written = [path.name for path in behaviour_pictures(done.frame, done.directory)] if plot else []
    for why, count in done.frame["reason"].dropna().value_counts().items():
        say(f"undefined: {counted(int(count), 'row')}: {why}")
    files = ", ".join(["rows.parquet", "rows.csv", *written])
    say(
        f"{counted(len(done.steps), 'step')} probed{kept} ({counted(len(done.frame), 'row')}, "
        f"{time.monotonic() - begun:.1f} s) in {done.directory}: {files}"
    )


def probes(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One probe, with everything about it.")] = None,
    form: o.As = o.Form.table,
) -> None:
    """List the probes of `behave`, or show the page of one: definitions, ranges, what it needs, cost, reference."""
    from pico_analyze.output import probe_pages

    typer.echo(probe_pages.probes(name, form.value))
