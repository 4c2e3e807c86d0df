"""From documents to a prepared corpus: tokenize, pack, shuffle, write shards, and last the manifest.

Documents are read twice where a tokenizer is trained, once otherwise. Their rows go to a spool on disk in reading
order; then shards are written from it in shuffled order. Both stages note how far they are, so that after a kill the
same command goes on from there and ends with the same bytes. Nothing that was begun is ever taken for whole: shards
are renamed into place, and the manifest comes last.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from pico_schema.files import fsync_directory, replace_file
from pico_train.checkpoint.signals import StopRequest
from pico_train.counting import counted
from pico_train.data import tokenizer as tokenizers
from pico_train.data.cache import cannot_write, locked
from pico_train.data.prepare.holding_out import Rule, choose
from pico_train.data.prepare.journal import Journal
from pico_train.data.prepare.recipe import DocumentSplits, Inputs, Recipe
from pico_train.data.prepare.shuffle import count_sources, write_shards
from pico_train.data.prepare.splitting import SplitRows, split_rows
from pico_train.data.prepare.tokenize import SpooledRows, tokenize
from pico_train.data.prepare.training_text import TrainingText
from pico_train.data.shards import manifest as manifests
from pico_train.data.shards.manifest import CorpusManifest, ShardEntry, Split, TokenizerEntry
from pico_train.errors import DataError
from pico_train.version import __version__

Progress = Callable[[str], None]

WORK = manifests.UNFINISHED
KEY = ".key"
"""File that says which inputs, on this machine, and which recipe a finished corpus was made from."""
FORMAT = 2
"""Changes when the same recipe gives other rows."""


def prepare(
    inputs: Inputs,
    recipe: Recipe,
    out: Path,
    *,
    workers: int = 1,
    training_bytes: int = 64 * 2**20,
    block_bytes: int = 64 * 2**20,
    progress: Progress = lambda _: None,
) -> CorpusManifest:
    """Make the corpus at `out`, or go on with one that was interrupted; one that is finished is left as it is.

    Args:
        inputs: The documents.
        recipe: What to make of them.
        out: Directory of the corpus.
        workers: Processes that tokenize; they change the time alone.
        training_bytes: Text that a tokenizer is trained on, at most.
        block_bytes: Rows held at once while shards are written.
        progress: Called with a sentence now and then.

    Returns:
        The corpus's manifest.

    Raises:
        DataError: no documents or too few, or `out` holds something else.
        StorageError: the disk is full or fails; what was finished stays, and the same call goes on.
        InterruptedRun: a signal came; likewise.
    """
    resources = Resources(workers, training_bytes, block_bytes)
    with StopRequest(f"while {out} was prepared: what is done is kept, the same command goes on from there"):
        try:
            with locked(out / ".lock"):
                return _found_or_made(inputs, recipe, out, resources, progress)
        except OSError as error:
            raise cannot_write(out, error) from error


def _found_or_made(
    inputs: Inputs, recipe: Recipe, out: Path, resources: Resources, progress: Progress
) -> CorpusManifest:
    key = corpus_key(inputs, recipe)
    found = manifests.read(out)
    if found is None:
        return _prepare(inputs, recipe, out, Journal.begin(out / WORK, key), resources, progress)
    if _read_key(out) != key:
        raise DataError(f"{out}: holds another corpus: choose another --out, or delete it")
    shutil.rmtree(out / WORK, ignore_errors=True)  # left where removing it failed
    return found


@dataclass(frozen=True)
class Resources:
    """What changes the time and the memory, and nothing else."""

    workers: int
    training_bytes: int
    block_bytes: int


def _prepare(
    inputs: Inputs, recipe: Recipe, out: Path, journal: Journal, resources: Resources, progress: Progress
) -> CorpusManifest:
    holding_out = journal.holding_out or choose(inputs, recipe)
    journal.decided(holding_out)
    if holding_out.rule is not Rule.NOTHING:
        progress(f"held out: {holding_out.describe(recipe)}")
    training = TrainingText(inputs, recipe, holding_out, resources.training_bytes)
    info = _tokenizer(training, out / manifests.TOKENIZER_DIR, progress)
    chosen = DocumentSplits(inputs, recipe, end_held_out=holding_out.rule is Rule.END)
    rows = SpooledRows(out / WORK, recipe, info.vocab_size, journal)
    try:
        if journal.stage == "tokenize":
            tokenize(rows, chosen, info, journal, workers=resources.workers, progress=progress)
        parts = split_rows(rows.spools, journal, holding_out, recipe, eos_id=info.eos_id)
        splits = {
            split: _write_split(part, recipe, out, journal, split, resources.block_bytes, progress)
            for split, part in parts.items()
        }
    finally:
        rows.close()
    manifest = CorpusManifest(
        producer=f"pico-train {__version__}",
        seq_len=recipe.seq_len,
        shuffle_seed=recipe.shuffle_seed,
        source=recipe.source,
        license=recipe.license,
        tokenizer=TokenizerEntry(
            name=_name_of(recipe.tokenizer),
            sha256=info.sha256,
            files=info.files,
            vocab_size=info.vocab_size,
            eos_token=info.eos_token,
            eos_id=info.eos_id,
        ),
        settings={
            "documents_sha256": journal.documents_sha256,
            "held_out": holding_out.describe(recipe),
            **{name: value for name, value in asdict(recipe).items() if name not in ("source", "license", "tokenizer")},
        },
        counts=journal.left_out,
        special_tokens_in_text=dict(sorted(rows.found.special.items())),
        unknown_tokens=rows.found.unknown,
        splits=splits,
        sha256=manifests.identity(recipe.seq_len, splits["train"].shards),
    )
    replace_file(out / KEY, journal.key.encode())
    manifests.write(out, manifest)
    shutil.rmtree(out / WORK, ignore_errors=True)
    return manifest


def _name_of(tokenizer: str) -> str:
    """What the manifest calls a tokenizer: a directory by its last name, so that no path of this machine is in it."""
    given = Path(tokenizer).expanduser()
    return given.resolve().name if given.is_dir() else tokenizer


def _read_key(out: Path) -> str | None:
    path = out / KEY
    return path.read_text() if path.is_file() else None


def corpus_key(inputs: Inputs, recipe: Recipe) -> str:
    """Digest of everything that decides the corpus's bytes."""
    content = {"format": FORMAT, "inputs": inputs.identity, "recipe": asdict(recipe)}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _tokenizer(training: TrainingText, directory: Path, progress: Progress) -> tokenizers.TokenizerInfo:
    """The corpus's tokenizer, made or fetched if it is not there yet."""
    if (directory / "tokenizer.json").is_file():
        return tokenizers.describe(directory)
    staging = directory.with_name(f".{directory.name}.tmp")
    shutil.rmtree(staging, ignore_errors=True)
    recipe = training.recipe
    size = tokenizers.parse_training(recipe.tokenizer)
    if size is None:
        tokenizers.obtain(recipe.tokenizer, staging)
    else:
        progress(f"training a tokenizer of {size} tokens")
        tokenizers.save_trained(tokenizers.train(training, size), staging, max_length=recipe.seq_len)
    tokenizers.describe(staging)
    _make_durable(staging)
    staging.rename(directory)
    fsync_directory(directory.parent)
    return tokenizers.describe(directory)


def _make_durable(directory: Path) -> None:
    """Sync the files of a directory: once it is renamed into place, it is taken for whole."""
    for path in directory.iterdir():
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    fsync_directory(directory)


def _write_split(
    part: SplitRows, recipe: Recipe, out: Path, journal: Journal, split: str, block_bytes: int, progress: Progress
) -> Split:
    """The shards of one split, and what its manifest says."""
    rows, n_rows = part.rows, part.n_rows
    seed = recipe.shuffle_seed if split == "train" else recipe.shuffle_seed or 0

    def on_shard(entry: ShardEntry) -> None:
        journal.shard_done(split, entry)
        progress(f"wrote {entry.file}: {counted(entry.n_rows, 'row')}")

    shards = write_shards(
        rows,
        out,
        split,
        n_rows=n_rows,
        rows_per_shard=recipe.rows_per_shard,
        seed=seed,
        compression=recipe.compression,
        block_bytes=block_bytes,
        done=journal.shards(split),
        on_shard=on_shard,
    )
    return Split(
        n_rows=n_rows,
        n_documents=part.n_documents,
        n_tokens=part.n_tokens,
        dropped_tokens=part.n_tokens - n_rows * (recipe.seq_len + 1),
        sources=count_sources(rows, n_rows, split=split, seed=seed),
        shards=shards,
    )
