"""Which rows of a corpus of shards are held out: those named, those that lie with it, or else its last ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pico_train.counting import counted
from pico_train.data.shards import footers
from pico_train.data.shards import manifest as manifests
from pico_train.data.shards.shard_corpus import ShardCorpus, in_directory
from pico_train.data.shards.sharded_rows import ShardedRows
from pico_train.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pico_train.config import DataConfig

Progress = Callable[[str], None]


def with_held_out(corpus: ShardCorpus, config: DataConfig, cache: Path, progress: Progress) -> ShardCorpus:
    """The corpus with the held-out rows that the configuration asks for.

    `data.val_paths` names a directory of them; without it the split that lies with the corpus is taken; without that
    the last `data.val_rows` rows are held out, and are no longer trained on.

    Raises:
        ConfigError: the directory has no shards, or rows of another length or tokenizer.
        DataError: nothing would be left to train on.
    """
    if config.val_paths:
        named = _named(corpus, config, cache, progress)
        return replace(corpus, held_out=named, held_out_from=0, held_out_are=f"those in {config.val_paths[0]}")
    if corpus.held_out is not None:
        return corpus
    left = corpus.n_rows - config.val_rows
    if left <= 0:
        raise DataError(
            f"{corpus.where}: {counted(corpus.n_rows, 'row')}, of which {config.val_rows:,} would be held "
            "out: set data.val_rows lower, or name held-out shards with data.val_paths"
        )
    details = {**corpus.fingerprint.details, "held_out": f"the last {config.val_rows} rows"}
    fingerprint = corpus.fingerprint.model_copy(update={"n_rows": left, "details": details})
    are = f"the last of its {corpus.n_rows:,} rows, which has no held-out split"
    return replace(corpus, fingerprint=fingerprint, held_out=corpus.train, held_out_from=left, held_out_are=are)


def _named(corpus: ShardCorpus, config: DataConfig, cache: Path, progress: Progress) -> ShardedRows:
    """The rows in the directory that `data.val_paths` names."""
    directory = Path(config.val_paths[0]).expanduser()
    if len(config.val_paths) > 1 or not directory.is_dir():
        raise ConfigError(
            f"data.val_paths: {', '.join(config.val_paths)}: one directory of held-out shards is expected"
        )
    manifest = manifests.read(directory)
    if manifest is None:
        shards = footers.list_shards(directory)
        if not shards:
            raise ConfigError(f"data.val_paths: {directory}: holds no Parquet shards")
        names = list(shards)
        counts = [footer.n_rows for footer in footers.local_index(directory, shards, cache, progress)]
    else:
        if manifest.seq_len != corpus.seq_len:
            raise ConfigError(
                f"data.val_paths: {directory}: its rows hold {manifest.seq_len} + 1 tokens, those of the corpus "
                f"{corpus.seq_len} + 1: prepare it with --seq-len {corpus.seq_len}"
            )
        if manifest.tokenizer.sha256 != corpus.fingerprint.tokenizer_sha256:
            raise ConfigError(
                f"data.val_paths: {directory}: was made with another tokenizer ({manifest.tokenizer.name}) than the "
                f"corpus: prepare it with --tokenizer {corpus.tokenizer_dir}"
            )
        split = manifest.splits["val"] if "val" in manifest.splits else manifest.splits["train"]
        names, counts = [shard.file for shard in split.shards], [shard.n_rows for shard in split.shards]
    return ShardedRows(counts, in_directory(directory, names), row_len=corpus.seq_len + 1, vocab_size=corpus.vocab_size)
