"""The corpus in a directory that `prepare` made: its manifest says everything."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from pico_schema import DataFingerprint

from pico_train.data import manifest as manifests
from pico_train.data.manifest import CorpusManifest, Split
from pico_train.data.order import Order
from pico_train.data.sharded import ShardedRows
from pico_train.errors import DataError


def fingerprint_of(
    manifest: CorpusManifest, *, source: str, order: Order, details: dict[str, str | int | None]
) -> DataFingerprint:
    """The identity of a prepared corpus, wherever it lies."""
    train = manifest.splits["train"]
    stated = {"source": manifest.source, "license": manifest.license, "tokenizer": manifest.tokenizer.name}
    return DataFingerprint(
        source=source,
        sha256=manifest.sha256,
        n_rows=train.n_rows,
        seq_len=manifest.seq_len,
        vocab_size=manifest.tokenizer.vocab_size,
        tokenizer_sha256=manifest.tokenizer.sha256,
        order=order,
        details={key: value for key, value in {**stated, **details}.items() if value is not None},
    )


class PreparedCorpus:
    """Rows of a prepared directory."""

    def __init__(self, directory: Path, manifest: CorpusManifest, *, source: str, order: Order) -> None:
        self.directory, self.manifest = directory, manifest
        self.tokenizer_dir = directory / manifests.TOKENIZER_DIR
        self.vocab_size, self.eos_id = manifest.tokenizer.vocab_size, manifest.tokenizer.eos_id
        self.seq_len = manifest.seq_len
        self.n_rows = manifest.splits["train"].n_rows
        self.fingerprint = fingerprint_of(manifest, source=source, order=order, details={})
        self._splits = {name: self._sharded(split) for name, split in manifest.splits.items()}

    def _sharded(self, split: Split) -> ShardedRows:
        paths = [self.directory / shard.file for shard in split.shards]
        counts = [shard.n_rows for shard in split.shards]
        return ShardedRows(counts, paths.__getitem__, row_len=self.seq_len + 1, vocab_size=self.vocab_size)

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """The rows `ids` (k,): (k, T + 1) int32."""
        return self._splits["train"].rows(ids)

    def sources(self, ids: np.ndarray) -> list[str]:
        """Where the rows `ids` (k,) are from."""
        return self._splits["train"].sources(ids)

    def validation(self, n_rows: int) -> np.ndarray:
        """The first rows of the held-out set: (n_rows, T + 1) int32."""
        return self._held_out(n_rows).rows(np.arange(n_rows))

    def validation_sources(self, n_rows: int) -> list[str]:
        """Where these rows are from."""
        return self._held_out(n_rows).sources(np.arange(n_rows))

    def _held_out(self, n_rows: int, split: Literal["val"] = "val") -> ShardedRows:
        held_out = self._splits.get(split)
        there = held_out.index.n_rows if held_out else 0
        if held_out is None or there < n_rows:
            raise DataError(
                f"{self.directory}: {there} held-out rows, {n_rows} were asked for: set data.val_rows={max(there, 1)}, "
                "or hold out more"
            )
        return held_out
