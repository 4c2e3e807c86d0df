"""A corpus that can be trained on: token rows by number, their sources, and a fixed set of held-out rows.

Every source (stdlib, repeats, text, tokens, hub) ends here as Parquet shards; what differs is how the shards come to
be on this disk. Which rows a batch takes is `order`'s business.

Letters: k rows asked for, T = seq_len; a row holds T + 1 ids.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pico_schema import DataFingerprint
from pico_train.data.cache import cache_root, cannot_write

if TYPE_CHECKING:
    from pico_train.config import DataConfig
    from pico_train.data.shards.shard_corpus import ShardCorpus


class Corpus(Protocol):
    """What the loader and the run need of a corpus."""

    @property
    def fingerprint(self) -> DataFingerprint:
        """Its identity."""

    @property
    def tokenizer_dir(self) -> Path:
        """Directory that `AutoTokenizer` loads."""

    @property
    def vocab_size(self) -> int:
        """Ids are smaller than this."""

    @property
    def seq_len(self) -> int:
        """T."""

    @property
    def n_rows(self) -> int:
        """Rows to train on."""

    @property
    def eos_id(self) -> int:
        """Id of the end-of-text token."""

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """The rows `ids` (k,): (k, T + 1) int32."""

    def sources(self, ids: np.ndarray) -> list[str]:
        """Where the rows `ids` (k,) are from."""

    @property
    def n_validation_rows(self) -> int:
        """Held-out rows that there are."""

    def validation(self, n_rows: int) -> np.ndarray:
        """The first rows of the fixed held-out set, all where they are fewer: (n, T + 1) int32."""

    def validation_sources(self, n_rows: int) -> list[str]:
        """Where these rows are from."""

    @property
    def held_out_rows_trained_on(self) -> int:
        """Held-out rows that are training rows too."""

    def describe_held_out(self, n_scored: int) -> str:
        """What is held out and what of it is scored, in one sentence."""


def open_corpus(
    config: DataConfig,
    *,
    cache_dir: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> ShardCorpus:
    """The corpus that the configuration names, prepared in the cache if it is text.

    Args:
        config: The section `data`.
        cache_dir: Where to keep what is prepared or fetched; by default the user's cache directory.
        progress: Called with a sentence now and then.

    Raises:
        ConfigError: what is named does not exist.
        DataError: what is there cannot be used.
        StorageError: disk or network failed.
    """
    cache = cache_root(cache_dir)
    try:
        return _open(config, cache, progress)
    except OSError as error:
        raise cannot_write(cache, error) from error


def _open(config: DataConfig, cache: Path, progress: Callable[[str], None]) -> ShardCorpus:
    if config.source == "stdlib":
        from pico_train.data.sources.text import open_stdlib

        return open_stdlib(config, cache, progress)
    if config.source == "repeats":
        from pico_train.data.sources.text import open_repeats

        return open_repeats(config, cache, progress)
    if config.source == "text":
        from pico_train.data.sources.text import open_text

        return open_text(config, cache, progress)
    from pico_train.data.sources.held_out import with_held_out

    if config.source == "tokens":
        from pico_train.data.sources.tokens import open_tokens

        return with_held_out(open_tokens(config, cache, progress), config, cache, progress)
    from pico_train.data.sources.hub import open_hub

    return with_held_out(open_hub(config, cache, progress), config, cache, progress)
