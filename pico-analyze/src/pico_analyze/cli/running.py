"""The commands that make runs of models: `capture`, `convert`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from pico_analyze.cli import options as o

MadeOut = Annotated[
    Path | None, typer.Option("--out", help="Directory of the run that is made. [default: runs/<RUN>-<command>]")
]


def capture(
    run: o.Run,
    out: MadeOut = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            help="Text (.txt, .jsonl, .parquet), token ids (input_ids in .jsonl or .parquet), or a run of Pico, whose "
            "validation rows are taken; repeatable. [default: RUN's own validation rows, or text of Python's library]",
        ),
    ] = None,
    site: Annotated[
        list[str] | None,
        typer.Option(
            "--site", "--sites", help="Site kinds or names, with commas or repeated. [default: attn.v,attn.o,mlp.down]"
        ),
    ] = None,
    steps: o.Steps = "all",
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
            help="Tokens that are read of a row cut from text. [default: 128, or as many as the model reads]",
        ),
    ] = None,
    positions: Annotated[
        str, typer.Option("--positions", help="Positions kept in each row: last, all, or so many, evenly spaced.")
    ] = "8",
    gradients: Annotated[
        bool, typer.Option("--gradients", help="Also gradients, of the mean token loss over all rows.")
    ] = False,
    weights: Annotated[
        bool, typer.Option("--weights", help="Also the weights, linked or copied, for circuits of activations.")
    ] = False,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    dtype: Annotated[
        o.DTypeOption, typer.Option("--dtype", help="What models compute in, and activations are stored in.")
    ] = o.DTypeOption.float32,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, max=65536, help="Rows of a forward pass.")] = 8,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, max=1024, help="Processes, each with a model in memory.")
    ] = 1,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run the code that lies beside a model's weights.")
    ] = False,
    *,
    read: o.Reading,
) -> None:
    """Run the models of a run on the same rows, and keep activations and gradients as a run of Pico (extra [torch])."""
    from pico_analyze.cli.console import say
    from pico_analyze.counting import counted
    from pico_analyze.models.capture import capture_models
    from pico_analyze.models.settings import settings_of

    begun = time.monotonic()
    settings = settings_of(
        run,
        out=out,
        data=data,
        sites=site,
        steps=steps,
        rows=rows,
        seq_len=seq_len,
        positions=positions,
        gradients=gradients,
        weights=weights,
        device=device,
        dtype=dtype.value,
        batch_size=batch_size,
        jobs=jobs,
        trust_remote_code=trust_remote_code,
        read=read.options(),
    )
    done = capture_models(run, settings, say)
    kept = f", {len(done.kept)} already there" if done.kept else ""
    say(
        f"{counted(len(done.steps), 'step')} captured{kept} ({counted(done.n_samples, 'sample')} of "
        f"{counted(len(done.sites), 'site')}, {time.monotonic() - begun:.1f} s) in {done.out}: "
        f"`pico-analyze compute cka {done.out} --data activations`"
    )


def convert(
    run: o.Run,
    out: MadeOut = None,
    steps: o.Steps = "all",
    copy: Annotated[bool, typer.Option("--copy", help="Copy files of weights, where they could be linked.")] = False,
    *,
    read: o.Reading,
) -> None:
    """Seal the weights of models of other makers as a run of Pico: one file a step, linked or copied, with digests."""
    from pico_analyze.cli.console import say
    from pico_analyze.counting import counted
    from pico_analyze.models.convert import convert_models
    from pico_analyze.models.settings import made_directory

    begun = time.monotonic()
    target = made_directory(run, "convert") if out is None else out
    done = convert_models(run, target, steps=steps, copy=copy, read=read.options(), told=say)
    kept = f", {len(done.kept)} already there" if done.kept else ""
    say(
        f"{counted(len(done.steps), 'step')} converted{kept} ({time.monotonic() - begun:.1f} s) in {done.out}: "
        f"`pico-analyze list {done.out}`"
    )
