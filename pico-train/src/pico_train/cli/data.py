"""The commands `pico-train data …`: what they print. Mounted by `app`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pico_train.cli.brief import Brief
from pico_train.cli.console import As, Format, progress_line
from pico_train.cli.numbers import MOST, MOST_STEPS, MOST_TOKENS
from pico_train.cli.prepare import prepare
from pico_train.counting import counted

if TYPE_CHECKING:
    from pico_schema import RunManifest
    from pico_train.addresses import RunPlace
    from pico_train.data.inspect.batches import SeenBatch, SeenRow
    from pico_train.data.inspect.stats import SplitStats
    from pico_train.data.shards.shard_corpus import ShardCorpus

app = typer.Typer(cls=Brief, help="Prepare, look at and check training data.", no_args_is_help=True)
app.command()(prepare)


SPLITS = ("train", "val")
"""Which rows of a run there are to show."""

Corpus = Annotated[
    str | None,
    typer.Argument(
        metavar="[DIR|RUN]",
        help="A corpus's directory, or a run as in other commands. [default: the newest run in ./runs]",
    ),
]


@app.command()
def show(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="A run. [default: the newest in ./runs]")] = None,
    step: Annotated[
        int | None, typer.Option(min=0, max=MOST_STEPS, help="Step whose batch to show. [default: RUN's @STEP, or 0]")
    ] = None,
    row: Annotated[int | None, typer.Option(min=0, max=MOST, help="Only this row of the batch.")] = None,
    split: Annotated[
        str, typer.Option(metavar="[train|val]", help="The batch of a step, or the validation rows, which are fixed.")
    ] = "train",
    chars: Annotated[
        int, typer.Option(min=0, max=MOST, help="Print at most this many characters per row; 0 prints all.")
    ] = 0,
    output: As = Format.table,
) -> None:
    """The text of batch N of a run, with row ids and sources: what the update N → N + 1 learns from."""
    from pico_train.data.inspect.batches import batch_of_run, validation_of_run
    from pico_train.errors import UsageError

    _check_split(split)
    found = _run(run)
    if split == "val" and (step is not None or found.step is not None):
        named = "--step" if step is not None else f"@{found.step}"
        raise UsageError(f"--split val and {named}: the validation rows are the same at every step: leave {named} out")
    if step is not None and found.step is not None:
        raise UsageError(f"{run} names step {found.step} already: leave that or --step {step} out")
    if split == "val":
        manifest, rows = validation_of_run(found.run_dir, row=row)
        _show_validation(manifest, rows, chars, output)
        return
    batch = batch_of_run(found.run_dir, step or found.step or 0, row=row, progress=progress_line())
    if output is Format.json:
        typer.echo(json.dumps(_batch_json(batch), indent=1))
    else:
        _print_batch(batch, chars)


def _check_split(name: str) -> None:
    from difflib import get_close_matches

    from pico_train.errors import UsageError

    if name not in SPLITS:
        near = get_close_matches(name, SPLITS, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}" if near else ""
        raise UsageError(f"--split {name!r} is none: there are {', '.join(SPLITS)}{hint}")


def _show_validation(run: RunManifest, rows: tuple[SeenRow, ...], chars: int, output: Format) -> None:
    assert run.validation is not None  # otherwise there are no rows
    if output is Format.json:
        known = {"run": run.name, "split": "val", "n_rows": run.validation.n_rows, "sha256": run.validation.sha256}
        typer.echo(json.dumps({**known, "rows": [_row_json(each) for each in rows]}, indent=1))
        return
    for each in rows:
        typer.echo(f"── row {each.row} · {each.source or 'no source'}")
        _print_text(each.text, chars)
    typer.echo(f"{run.name}, {counted(run.validation.n_rows, 'validation row')}, sha256 {run.validation.sha256}")


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
    words = [f"{batch.run}, batch {batch.step}: {counted(batch.n_rows, 'row')}, epoch {batch.epoch}"]
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
        int | None, typer.Option(min=1, max=MOST, help="Count only this many rows per split, evenly spaced.")
    ] = None,
    tokenizer: Annotated[str | None, typer.Option(help="Tokenizer of shards that do not say theirs.")] = None,
    output: As = Format.table,
) -> None:
    """Rows, tokens, documents, sources and token frequencies of a corpus."""
    from dataclasses import asdict

    from pico_train.data.inspect.stats import count

    opened = _open(corpus, tokenizer)
    found = count(opened, limit=limit, progress=progress_line())
    if output is Format.json:
        fingerprint = opened.fingerprint.model_dump(mode="json")
        typer.echo(json.dumps({"fingerprint": fingerprint, "splits": [asdict(each) for each in found]}, indent=1))
        return
    typer.echo(f"{opened.where}: seq_len {opened.seq_len}, sha256 {opened.fingerprint.sha256[:16]}…")
    for each in found:
        _print_stats(each)


def _print_stats(each: SplitStats) -> None:
    part = "" if each.rows == each.rows_in_all else f" (of {each.rows_in_all:,})"
    typer.echo(f"{each.split}")
    typer.echo(f"  rows       {each.rows:,}{part}, {each.repeated_rows:,} of them repeated")
    typer.echo(f"  tokens     {each.tokens:,}, of which {each.ends:,} end a document")
    typer.echo(f"  vocabulary {each.distinct:,} of {each.vocab_size:,} ids occur; {each.entropy:.2f} bits per token")
    typer.echo("  frequent   " + "  ".join(f"{text!r} {share:.1%}" for text, share in each.frequent))
    for name, rows in each.sources[:10]:
        typer.echo(f"  source     {name}: {counted(rows, 'row')}")
    if len(each.sources) > 10:
        typer.echo(f"  source     and {len(each.sources) - 10:,} more")


@app.command()
def verify(
    corpus: Corpus = None,
    seq_len: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_TOKENS, help="Row length to expect of shards without a manifest, less one."),
    ] = None,
    vocab_size: Annotated[
        int | None, typer.Option(min=1, max=MOST, help="Vocabulary to expect of shards without a manifest.")
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
    report = verify_corpus(directory, seq_len=seq_len, vocab_size=vocab_size, progress=progress_line())
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
        verdict = "sound" if not report.problems else counted(len(report.problems), "problem")
        held = [counted(report.shards, "shard"), counted(report.rows, "row"), counted(report.size, "byte")]
        typer.echo(f"{report.directory}: {', '.join(held)}: {verdict}")
    if report.problems:
        raise typer.Exit(3)


def _run(name: str | None) -> RunPlace:
    """The run of a name, without one the newest under ./runs."""
    from pico_train.addresses import RunPlace, newest_run, open_run

    return open_run(name, on_retry=progress_line()) if name is not None else RunPlace(newest_run(), None)


def _open(name: str | None, tokenizer: str | None) -> ShardCorpus:
    """The corpus of a directory or of a run."""
    from pico_schema import documents
    from pico_train.data.inspect.batches import open_run_corpus

    if name is not None and _is_corpus(Path(name)):
        return _open_directory(Path(name), tokenizer)
    run: RunManifest = documents.read_run(_run(name).run_dir)
    return open_run_corpus(run, progress=progress_line())


def _open_directory(directory: Path, tokenizer: str | None) -> ShardCorpus:
    from pico_train.data.sources.tokens import open_directory

    return open_directory(directory, tokenizer, progress=progress_line())


def _is_corpus(path: Path) -> bool:
    return path.is_dir() and not any((path / name).is_file() for name in ("run.json", "manifest.json"))
