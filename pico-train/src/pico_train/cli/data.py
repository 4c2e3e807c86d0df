"""The commands `pico-train data …`: what they print. Mounted by `app`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pico_train.cli.console import As, Format

if TYPE_CHECKING:
    from pico_schema import RunManifest
    from pico_train.addresses import RunPlace
    from pico_train.data.inspect.batches import SeenBatch, SeenRow
    from pico_train.data.inspect.stats import SplitStats
    from pico_train.data.shards.shard_corpus import ShardCorpus

app = typer.Typer(help="Prepare, look at and check training data.", no_args_is_help=True)


class Split(StrEnum):
    """Which rows of a run."""

    train = "train"
    val = "val"


class Errors(StrEnum):
    """What to do with bytes that are not UTF-8."""

    refuse = "refuse"
    replaced = "replace"


class Compression(StrEnum):
    """How shards are compressed."""

    none = "none"
    zstd = "zstd"
    snappy = "snappy"


Corpus = Annotated[
    str | None,
    typer.Argument(
        metavar="[DIR|RUN]",
        help="A corpus's directory, or a run as in other commands. [default: the newest run in ./runs]",
    ),
]


@app.command()
def prepare(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT…",
            help="Files, folders, globs (.txt .md .jsonl .jsonl.gz .parquet and what `datasets` reads), "
            "or hf://datasets/ORG/NAME[@REVISION][/FILES][?split=…].",
        ),
    ] = None,
    tokenizer: Annotated[str, typer.Option(help="A name on the Hub, a directory, or train:N.")] = "train:4096",
    seq_len: Annotated[int, typer.Option(min=2, help="Tokens per row that are predicted; rows hold one more.")] = 2048,
    out: Annotated[Path, typer.Option(help="Directory of the corpus.")] = Path("corpus"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the global shuffle.")] = 0,
    val_fraction: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="Part of the documents to hold out, chosen by hash.")
    ] = 0.0,
    val_input: Annotated[list[str] | None, typer.Option(help="Files, folders, globs to hold out; repeatable.")] = None,
    val_rows_per_source: Annotated[
        int | None, typer.Option(min=1, help="Keep at most this many held-out rows of each source.")
    ] = None,
    sample: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Use only this part of the documents, chosen by hash.")
    ] = 1.0,
    max_rows: Annotated[int | None, typer.Option(min=1, help="Keep only the first rows of the shuffled order.")] = None,
    rows_per_shard: Annotated[int, typer.Option(min=1, help="Rows of each shard.")] = 20_480,
    compression: Annotated[
        Compression, typer.Option(help="none is read fastest; zstd halves the size.")
    ] = Compression.none,
    text_column: Annotated[str, typer.Option(help="Field or column that holds the text.")] = "text",
    source_column: Annotated[str, typer.Option(help="Field or column that says where a text is from.")] = "source",
    source_is_folder: Annotated[
        bool, typer.Option("--source-is-folder", help="A file's first folder is its source.")
    ] = False,
    encoding_errors: Annotated[Errors, typer.Option(help="What to do with text that is not UTF-8.")] = Errors.refuse,
    source: Annotated[str | None, typer.Option(help="Where the text is from, for the manifest.")] = None,
    license: Annotated[str | None, typer.Option(help="Licence of the text, for the manifest.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes. [default: all cores that fit --memory]")
    ] = None,
    memory: Annotated[str, typer.Option(help="Memory that all processes may take together, such as 2GB.")] = "2GB",
    output: As = Format.table,
) -> None:
    """Tokenize, pack and shuffle text into shards of token rows. Run it again to go on after an interruption."""
    from pico_train.data.prepare.budget import plan_memory
    from pico_train.data.prepare.inputs import text_inputs
    from pico_train.data.prepare.pipeline import prepare as prepare_corpus
    from pico_train.data.prepare.reading import TextLayout
    from pico_train.data.prepare.recipe import Recipe
    from pico_train.errors import UsageError

    if not inputs and not val_input:
        raise UsageError("nothing to prepare: name files, folders or globs (or --val-input for a held-out set alone)")
    if val_input and val_fraction:
        raise UsageError("--val-fraction and --val-input cannot be combined: hold out a fraction, or files")
    budget = plan_memory(memory, workers)
    layout = TextLayout(text_column, source_column, encoding_errors.value, source_is_folder)
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
    manifest = prepare_corpus(
        found,
        recipe,
        out,
        workers=budget.workers,
        training_bytes=budget.training_bytes,
        block_bytes=budget.block_bytes,
        progress=_progress(),
    )
    if output is Format.json:
        typer.echo(json.dumps({"directory": str(out), **manifest.model_dump(mode="json")}, indent=1))
        return
    for name, split in manifest.splits.items():
        typer.echo(
            f"{name:<6}{split.n_rows:,} rows of {seq_len} + 1 tokens in {len(split.shards)} shard(s), from "
            f"{split.n_documents:,} documents ({split.dropped_tokens:,} tokens not in a row)"
        )
    for reason, number in manifest.counts.items():
        typer.echo(f"left out: {number:,} document(s): {reason.replace('_', ' ')}")
    typer.echo(f"saved {out} (sha256 {manifest.sha256[:16]}…)")
    if "train" in manifest.splits and manifest.splits["train"].n_rows:
        typer.echo(
            f"next  pico-train run --set data.source=tokens --set data.paths=[{out}] --set data.seq_len={seq_len} "
            f"--set model.vocab_size={manifest.tokenizer.vocab_size}"
        )


@app.command()
def show(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="A run. [default: the newest in ./runs]")] = None,
    step: Annotated[int, typer.Option(min=0, help="Step whose batch to show.")] = 0,
    row: Annotated[int | None, typer.Option(min=0, help="Only this row of the batch.")] = None,
    split: Annotated[
        Split, typer.Option(help="The batch of a step, or the validation rows, which are fixed.")
    ] = Split.train,
    chars: Annotated[int, typer.Option(min=0, help="Print at most this many characters per row; 0 prints all.")] = 0,
    output: As = Format.table,
) -> None:
    """The text of batch N of a run, with row ids and sources: what the update N → N + 1 learns from."""
    from pico_train.data.inspect.batches import batch_of_run, validation_of_run

    found = _run(run)
    if split is Split.val:
        manifest, rows = validation_of_run(found.run_dir, row=row)
        _show_validation(manifest, rows, chars, output)
        return
    batch = batch_of_run(found.run_dir, step if found.step is None else found.step, row=row, progress=_progress())
    if output is Format.json:
        typer.echo(json.dumps(_batch_json(batch), indent=1))
    else:
        _print_batch(batch, chars)


def _show_validation(run: RunManifest, rows: tuple[SeenRow, ...], chars: int, output: Format) -> None:
    assert run.validation is not None  # otherwise there are no rows
    if output is Format.json:
        known = {"run": run.name, "split": "val", "n_rows": run.validation.n_rows, "sha256": run.validation.sha256}
        typer.echo(json.dumps({**known, "rows": [_row_json(each) for each in rows]}, indent=1))
        return
    for each in rows:
        typer.echo(f"── row {each.row} · {each.source or 'no source'}")
        _print_text(each.text, chars)
    typer.echo(f"{run.name}, {run.validation.n_rows} validation rows, sha256 {run.validation.sha256}")


def _row_json(each: SeenRow) -> dict[str, Any]:
    return {"row": each.row, "source": each.source, "text": each.text, "input_ids": each.input_ids.tolist()}


def _print_text(text: str, chars: int) -> None:
    typer.echo(text[:chars] + " […]" if chars and len(text) > chars else text)


def _batch_json(batch: SeenBatch) -> dict[str, Any]:
    return {
        "run": batch.run,
        "step": batch.step,
        "epoch": batch.epoch,
        "batch_rows": batch.n_rows,
        "batch_sha256": batch.sha256,
        "captured_sha256": batch.captured_sha256,
        "rows": [{"row_id": each.row_id, **_row_json(each)} for each in batch.rows],
    }


def _print_batch(batch: SeenBatch, chars: int) -> None:
    for each in batch.rows:
        typer.echo(f"── row {each.row} · id {each.row_id} · {each.source or 'no source'}")
        _print_text(each.text, chars)
    words = [f"{batch.run}, batch {batch.step}: {batch.n_rows} rows, epoch {batch.epoch}"]
    if batch.sha256 is not None:
        words.append(f"sha256 {batch.sha256}")
        if batch.captured_sha256 is not None:
            words.append(
                "equal to what was captured" if batch.sha256 == batch.captured_sha256 else "NOT what was captured"
            )
    typer.echo(", ".join(words))


@app.command()
def stats(
    corpus: Corpus = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Count only this many rows per split, evenly spaced.")
    ] = None,
    tokenizer: Annotated[str | None, typer.Option(help="Tokenizer of shards that do not say theirs.")] = None,
    output: As = Format.table,
) -> None:
    """Rows, tokens, documents, sources and token frequencies of a corpus."""
    from dataclasses import asdict

    from pico_train.data.inspect.stats import count

    opened = _open(corpus, tokenizer)
    found = count(opened, limit=limit, progress=_progress())
    if output is Format.json:
        fingerprint = opened.fingerprint.model_dump(mode="json")
        typer.echo(json.dumps({"fingerprint": fingerprint, "splits": [asdict(each) for each in found]}, indent=1))
        return
    typer.echo(f"{opened.where}: seq_len {opened.seq_len}, sha256 {opened.fingerprint.sha256[:16]}…")
    for each in found:
        _print_stats(each)


def _print_stats(each: SplitStats) -> None:
    counted = "" if each.rows == each.rows_in_all else f" (of {each.rows_in_all:,})"
    typer.echo(f"{each.split}")
    typer.echo(f"  rows       {each.rows:,}{counted}, {each.repeated_rows:,} of them repeated")
    typer.echo(f"  tokens     {each.tokens:,}, of which {each.ends:,} end a document")
    typer.echo(f"  vocabulary {each.distinct:,} of {each.vocab_size:,} ids occur; {each.entropy:.2f} bits per token")
    typer.echo("  frequent   " + "  ".join(f"{text!r} {share:.1%}" for text, share in each.frequent))
    for name, rows in each.sources[:10]:
        typer.echo(f"  source     {name}: {rows:,} rows")
    if len(each.sources) > 10:
        typer.echo(f"  source     and {len(each.sources) - 10:,} more")


@app.command()
def verify(
    corpus: Corpus = None,
    seq_len: Annotated[
        int | None, typer.Option(min=1, help="Row length to expect of shards without a manifest, less one.")
    ] = None,
    vocab_size: Annotated[
        int | None, typer.Option(min=1, help="Vocabulary to expect of shards without a manifest.")
    ] = None,
    output: As = Format.table,
) -> None:
    """Read a corpus whole: hashes, row lengths, ids within the vocabulary. Exit code 3 if anything is wrong."""
    from pico_train.data.inspect.verify import verify as verify_corpus
    from pico_train.errors import UsageError

    directory = Path(corpus) if corpus else None
    if directory is None or not _is_corpus(directory):
        opened = _open(corpus, None)
        if opened.directory is None:
            raise UsageError(
                f"{opened.where} lies on the Hub: its shards are checked as they are fetched; name a directory to check"
            )
        directory, seq_len, vocab_size = opened.directory, opened.seq_len, opened.vocab_size
    report = verify_corpus(directory, seq_len=seq_len, vocab_size=vocab_size, progress=_progress())
    if output is Format.json:
        findings = [{"problem": f.problem, "file": f.file, "detail": f.detail} for f in report.problems]
        content = {
            "directory": str(report.directory),
            "shards": report.shards,
            "rows": report.rows,
            "findings": findings,
        }
        typer.echo(json.dumps(content, indent=1))
    else:
        for finding in report.problems:
            typer.echo(f"{finding.problem:<11} {finding.file}: {finding.detail}")
        verdict = "sound" if not report.problems else f"{len(report.problems)} problem(s)"
        typer.echo(
            f"{report.directory}: {report.shards} shard(s), {report.rows:,} rows, {report.size:,} bytes: {verdict}"
        )
    if report.problems:
        raise typer.Exit(3)


def _run(name: str | None) -> RunPlace:
    """The run of a name, without one the newest under ./runs."""
    from pico_train.addresses import RunPlace, newest_run, open_run

    return open_run(name) if name is not None else RunPlace(newest_run(), None)


def _open(name: str | None, tokenizer: str | None) -> ShardCorpus:
    """The corpus of a directory or of a run."""
    from pico_schema import documents
    from pico_train.data.inspect.batches import open_run_corpus

    if name is not None and _is_corpus(Path(name)):
        return _open_directory(Path(name), tokenizer)
    run: RunManifest = documents.read_run(_run(name).run_dir)
    return open_run_corpus(run, progress=_progress())


def _open_directory(directory: Path, tokenizer: str | None) -> ShardCorpus:
    from pico_train.data.sources.tokens import open_directory

    return open_directory(directory, tokenizer, progress=_progress())


def _is_corpus(path: Path) -> bool:
    return path.is_dir() and not any((path / name).is_file() for name in ("run.json", "manifest.json"))


def _progress() -> Callable[[str], None]:
    """Sentences on stderr: one line that changes on a terminal, lines elsewhere."""
    live = sys.stderr.isatty()

    def say(text: str) -> None:
        typer.echo(f"\r\x1b[K{text}" if live else text, err=True, nl=not live)

    return say
