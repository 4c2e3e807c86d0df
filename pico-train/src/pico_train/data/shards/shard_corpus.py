"""A corpus made of shards, whatever put them on this disk: the one implementation of `corpus.Corpus`.

Letters: k rows asked for, T = seq_len; a row holds T + 1 ids.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pico_schema import DataFingerprint
from pico_train.counting import counted
from pico_train.data.naming import named
from pico_train.data.order import Order
from pico_train.data.shards.manifest import CorpusManifest
from pico_train.data.shards.sharded_rows import FEW_SHARDS, OPEN_SHARDS, ShardedRows
from pico_train.errors import ConfigError, DataError


@dataclass(frozen=True)
class ShardCorpus:
    """Rows to train on and rows held out."""

    fingerprint: DataFingerprint
    """Identity of the training rows."""
    tokenizer_dir: Path
    """Directory that `AutoTokenizer` loads."""
    vocab_size: int
    """Ids are smaller than this."""
    eos_id: int
    """Id of the end-of-text token."""
    train: ShardedRows
    """Shards of the training rows."""
    held_out: ShardedRows | None
    """Shards of the held-out rows."""
    held_out_from: int = 0
    """First held-out row in `held_out`."""
    held_out_are: str = "the rows that lie with the corpus as its held-out split"
    """What was held out, in words."""
    where: str = "the corpus"
    """The corpus's name in errors."""
    directory: Path | None = None
    """Where its shards lie on this disk; None for those that come and go."""

    @property
    def seq_len(self) -> int:
        """T."""
        return self.fingerprint.seq_len

    @property
    def n_rows(self) -> int:
        """Rows to train on."""
        return self.fingerprint.n_rows

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """The rows `ids` (k,): (k, T + 1) int32."""
        return self.train.rows(ids)

    def sources(self, ids: np.ndarray) -> list[str]:
        """Where the rows `ids` (k,) are from."""
        return self.train.sources(ids)

    @property
    def n_validation_rows(self) -> int:
        """Held-out rows that there are."""
        return self.held_out.index.n_rows - self.held_out_from if self.held_out else 0

    def validation(self, n_rows: int) -> np.ndarray:
        """The first rows of the held-out set, as many as there are of `n_rows`: (n, T + 1) int32.

        Raises:
            DataError: there are none.
        """
        return self._held_out().rows(self.held_out_from + np.arange(min(n_rows, self.n_validation_rows)))

    def validation_sources(self, n_rows: int) -> list[str]:
        """Where these rows are from."""
        return self._held_out().sources(self.held_out_from + np.arange(min(n_rows, self.n_validation_rows)))

    @property
    def held_out_rows_trained_on(self) -> int:
        """Held-out rows that are training rows too, by their place in a shard: of fetched ones none."""
        if self.held_out is self.train:
            return max(0, self.n_rows - self.held_out_from)
        if self.held_out is None or self.directory is None:
            return 0
        trained = {path.resolve() for path in self.train.paths()}
        counts = np.diff(self.held_out.index.starts)
        return sum(int(n) for path, n in zip(self.held_out.paths(), counts, strict=True) if path.resolve() in trained)

    def describe_held_out(self, n_scored: int) -> str:
        """What is held out and what of it is scored, in one sentence.

        Args:
            n_scored: Rows of the validation set: the first of those held out, or all where they are fewer.

        Raises:
            DataError: none are held out.
        """
        sources = list(dict.fromkeys(source for source in self.validation_sources(n_scored) if source))
        of = f" (of {named(sources, 3)})" if sources else ""
        there = self.n_validation_rows
        scored = f"the first {n_scored:,} of them{of}"
        if there < n_scored:
            more = "data.val_fraction or data.val_paths hold out more"
            scored = f"all of them{of}, fewer than data.val_rows={n_scored}: {more}"
        return f"held out: {counted(there, 'row')}, {self.held_out_are}; scored: {scored}"

    def _held_out(self) -> ShardedRows:
        if self.held_out is None or not self.n_validation_rows:
            raise DataError(
                f"{self.where}: nothing is held out: hold out more text (data.val_fraction, data.val_paths)"
            )
        return self.held_out


def prepared_corpus(
    manifest: CorpusManifest,
    path_of: Mapping[str, Callable[[int], Path]],
    tokenizer_dir: Path,
    *,
    source: str,
    order: Order,
    seq_len: int,
    where: str,
    details: dict[str, str | int | float | bool | None],
    directory: Path | None = None,
) -> ShardCorpus:
    """The corpus that a manifest describes, wherever its shards lie.

    Args:
        manifest: What it is.
        path_of: For each split: puts a shard, by number, on this disk.
        tokenizer_dir: Where its tokenizer is on this disk.
        source: Kind of source, for the fingerprint.
        order: Order of its rows.
        seq_len: T that is asked for.
        where: Its name in errors.
        details: More about where it is from.
        directory: Where its shards lie, if they stay there.

    Raises:
        ConfigError: its rows have another length.
        DataError: it has no training rows.
    """
    if manifest.seq_len != seq_len:
        raise ConfigError(
            f"{where}: its rows hold {manifest.seq_len} + 1 tokens, data.seq_len is {seq_len}: set "
            f"data.seq_len={manifest.seq_len}, or prepare the corpus with --seq-len {seq_len}"
        )
    train, val = manifest.splits.get("train"), manifest.splits.get("val")
    if train is None or not train.n_rows:
        raise DataError(f"{where}: holds no rows to train on, only a held-out split: name it as data.val_paths")
    stated = {"text": manifest.source, "license": manifest.license, "tokenizer": manifest.tokenizer.name, **details}
    fingerprint = DataFingerprint(
        source=source,
        sha256=manifest.sha256,
        n_rows=train.n_rows,
        seq_len=manifest.seq_len,
        vocab_size=manifest.tokenizer.vocab_size,
        tokenizer_sha256=manifest.tokenizer.sha256,
        order=order,
        details={key: value for key, value in stated.items() if value is not None},
    )
    shape = {
        "row_len": seq_len + 1,
        "vocab_size": manifest.tokenizer.vocab_size,
        "open_shards": FEW_SHARDS if source == "hub" else OPEN_SHARDS,
    }
    return ShardCorpus(
        fingerprint,
        tokenizer_dir,
        manifest.tokenizer.vocab_size,
        manifest.tokenizer.eos_id,
        train=ShardedRows([shard.n_rows for shard in train.shards], path_of["train"], **shape),
        held_out=ShardedRows([shard.n_rows for shard in val.shards], path_of["val"], **shape) if val else None,
        held_out_are=_held_out_in_words(manifest),
        where=where,
        directory=directory,
    )


def _held_out_in_words(manifest: CorpusManifest) -> str:
    val, rule = manifest.splits.get("val"), manifest.settings.get("held_out")
    documents = f"of {counted(val.n_documents, 'document')}" if val else "of no document"
    return f"{documents}: {rule}" if isinstance(rule, str) else documents


def in_directory(directory: Path, names: Sequence[str]) -> Callable[[int], Path]:
    """Shards that already lie in a directory, by number."""
    paths = [directory / name for name in names]
    return paths.__getitem__
