"""The command `pico-train data prepare`: what it takes and prints. Mounted by `data`."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pico_train.cli.console import As, Format, progress_line
from pico_train.cli.numbers import LARGEST_SEED, MOST, MOST_PROCESSES, MOST_TOKENS, finite
from pico_train.counting import counted

if TYPE_CHECKING:
    from pico_train.data.prepare.inputs import TextInputs
    from pico_train.data.shards.manifest import CorpusManifest


class Errors(StrEnum):
    """What to do with bytes that are not UTF-8."""

    refuse = "refuse"
    replaced = "replace"


class OnBadRecord(StrEnum):
    """What to do with a record that holds no text."""

    refuse = "refuse"
    skip = "skip"


class Compression(StrEnum):
    """How shards are compressed."""

    none = "none"
    zstd = "zstd"
    snappy = "snappy"


def prepare(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT…",
            help="Files, folders, globs (.txt .md .jsonl .json .csv .parquet .arrow, compressed or not), "
            "or hf://datasets/ORG/NAME[@REVISION][/FILES][?split=…].",
        ),
    ] = None,
    tokenizer: Annotated[str, typer.Option(help="A name on the Hub, a directory, or train:N.")] = "train:4096",
    seq_len: Annotated[
        int, typer.Option(min=2, max=MOST_TOKENS, help="Tokens per row that are predicted; rows hold one more.")
    ] = 2048,
    out: Annotated[Path, typer.Option(help="Directory of the corpus.")] = Path("corpus"),
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of the global shuffle.")] = 0,
    val_fraction: Annotated[
        float,
        typer.Option(min=0.0, max=0.9, callback=finite, help="Part of the documents to hold out, chosen by hash."),
    ] = 0.0,
    val_input: Annotated[list[str] | None, typer.Option(help="Files, folders, globs to hold out; repeatable.")] = None,
    val_rows_per_source: Annotated[
        int | None, typer.Option(min=1, max=MOST, help="Keep at most this many held-out rows of each source.")
    ] = None,
    sample: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, callback=finite, help="Use only this part of the documents, chosen by hash."),
    ] = 1.0,
    max_rows: Annotated[
        int | None, typer.Option(min=1, max=MOST, help="Keep only the first rows of the shuffled order.")
    ] = None,
    rows_per_shard: Annotated[int, typer.Option(min=1, max=MOST, help="Rows of each shard.")] = 20_480,
    compression: Annotated[
        Compression, typer.Option(help="none is read fastest; zstd halves the size.")
    ] = Compression.none,
    text_column: Annotated[str, typer.Option(help="Field or column that holds the text.")] = "text",
    source_column: Annotated[str, typer.Option(help="Field or column that says where a text is from.")] = "source",
    source_is_folder: Annotated[
        bool, typer.Option("--source-is-folder", help="A file's first folder is its source.")
    ] = False,
    encoding_errors: Annotated[Errors, typer.Option(help="What to do with text that is not UTF-8.")] = Errors.refuse,
    on_bad_record: Annotated[
        OnBadRecord, typer.Option(help="What to do with records that hold no text: damaged, null, not text.")
    ] = OnBadRecord.refuse,
    source: Annotated[str | None, typer.Option(help="Where the text is from, for the manifest.")] = None,
    license: Annotated[str | None, typer.Option(help="Licence of the text, for the manifest.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=MOST_PROCESSES, help="Processes. [default: all cores that fit --memory]")
    ] = None,
    memory: Annotated[str, typer.Option(help="Memory that all processes may take together, such as 2GB.")] = "2GB",
    output: As = Format.table,
) -> None:
    """Tokenize, pack and shuffle text into shards of token rows. Run it again to go on after an interruption."""
    from pico_train.data.prepare.budget import plan_memory
    from pico_train.data.prepare.inputs import text_inputs
    from pico_train.data.prepare.pipeline import prepare as prepare_corpus
    from pico_train.data.prepare.recipe import Recipe
    from pico_train.data.prepare.records import TextLayout
    from pico_train.errors import UsageError

    if not inputs and not val_input:
        raise UsageError("nothing to prepare: name files, folders or globs (or --val-input for a held-out set alone)")
    if val_input and val_fraction:
        raise UsageError("--val-fraction and --val-input cannot be combined: hold out a fraction, or files")
    budget = plan_memory(memory, workers)
    layout = TextLayout(text_column, source_column, encoding_errors.value, source_is_folder, on_bad_record.value)
    recipe = Recipe(
        tokenizer=tokenizer,
        seq_len=seq_len,
        shuffle_seed=seed,
        val_fraction=val_fraction,
        val_rows_per_source=val_rows_per_source,
        sample=sample,
        max_rows=max_rows,
        rows_per_shard=rows_per_shard,
        compression=compression.value,
        source=source,
        license=license,
    )
    found = text_inputs(inputs or [], val_input or [], layout)
    _announce(found)
    manifest = prepare_corpus(
        found,
        recipe,
        out,
        workers=budget.workers,
        training_bytes=budget.training_bytes,
        block_bytes=budget.block_bytes,
        progress=progress_line(),
    )
    for place, problem in found.bad.places.items():
        typer.echo(f"passed over {place}: {problem}", err=True)
    if output is Format.json:
        typer.echo(json.dumps({"directory": str(out), **manifest.model_dump(mode="json")}, indent=1))
    else:
        _print_corpus(manifest, out)


def _announce(found: TextInputs) -> None:
    """Say on stderr what is read, what is held out by name, and what lies there and is not read."""
    from pico_train.data.prepare.inputs import names_of

    if found.found.items:
        typer.echo(f"reading {names_of(found.found)}", err=True)
    if found.found_val.items:
        typer.echo(f"holding out {names_of(found.found_val)}", err=True)
    for sentence in found.warnings():
        typer.echo(f"warning: {sentence}", err=True)


def _print_corpus(manifest: CorpusManifest, out: Path) -> None:
    """What was made, for people."""
    from pico_train.data.shards.manifest import met_in_text

    seq_len = manifest.seq_len
    for name, split in manifest.splits.items():
        how = f": {manifest.settings['held_out']}" if name == "val" and "held_out" in manifest.settings else ""
        typer.echo(
            f"{name:<6}{counted(split.n_rows, 'row')} of {seq_len} + 1 tokens in "
            f"{counted(len(split.shards), 'shard')}, from "
            f"{counted(split.n_documents, 'document')} ({counted(split.dropped_tokens, 'token')} not in a row){how}"
        )
    for reason, number in manifest.counts.items():
        typer.echo(f"left out: {counted(number, 'document')}: {reason.replace('_', ' ')}")
    for sentence in met_in_text(manifest):
        typer.echo(sentence)
    if "val" not in manifest.splits:
        typer.echo("nothing is held out: --val-fraction 0.05 holds out a part, --val-input files")
    typer.echo(f"saved {out} (sha256 {manifest.sha256[:16]}…)")
    if "train" in manifest.splits and manifest.splits["train"].n_rows:
        typer.echo(
            f"next  pico-train run --set data.source=tokens --set data.paths=[{out}] --set data.seq_len={seq_len} "
            f"--set model.vocab_size={manifest.tokenizer.vocab_size}"
        )
