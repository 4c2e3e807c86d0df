"""Source `tokens`: Parquet shards of token rows in a directory, with or without a manifest."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from pico_schema import DataFingerprint
from pico_train.data import tokenizer as tokenizers
from pico_train.data.cache import cache_root
from pico_train.data.shards import footers
from pico_train.data.shards import manifest as manifests
from pico_train.data.shards.parquet import COLUMN, check_schema
from pico_train.data.shards.shard_corpus import ShardCorpus, in_directory, prepared_corpus
from pico_train.data.shards.sharded_rows import FEW_SHARDS, OPEN_SHARDS, ShardedRows
from pico_train.data.shards.split_names import split_of
from pico_train.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pico_train.config import DataConfig

Progress = Callable[[str], None]


def open_tokens(config: DataConfig, cache: Path, progress: Progress) -> ShardCorpus:
    """The corpus in the directory that `config.paths` names.

    Raises:
        ConfigError: no such directory; a tokenizer or row length that are not the corpus's.
        DataError: no shards, or shards that cannot be used.
    """
    root = Path(config.paths[0]).expanduser()
    directory = root / config.subset if config.subset else root
    if not directory.is_dir():
        raise ConfigError(f"data.paths: {directory}: no such directory")
    manifest = manifests.read(directory)
    if manifest is not None:
        return open_prepared(directory, manifest, config, source="tokens")
    shards = footers.list_shards(directory)
    splits: dict[str, dict[str, os.stat_result]] = {"train": {}, "val": {}, "test": {}}
    for name, stat in shards.items():
        splits[split_of(name)][name] = stat
    del splits["test"]
    if not splits["train"]:
        raise DataError(f"{directory}: holds no Parquet shards to train on: is it the right folder (data.subset)?")
    found = {split: footers.local_index(directory, members, cache, progress) for split, members in splits.items()}
    identity: list[list[str | int]] = [
        [name, stat.st_size, footer.n_rows, footer.sha256]
        for (name, stat), footer in zip(splits["train"].items(), found["train"], strict=True)
    ]
    return bare_corpus(
        config,
        cache,
        counts={split: [footer.n_rows for footer in each] for split, each in found.items()},
        path_of={split: in_directory(directory, list(members)) for split, members in splits.items()},
        identity=identity,
        where=str(directory),
        directory=directory,
        details={"identity": "names, sizes and footers of the shards"},
    )


def open_directory(directory: Path, tokenizer: str | None, *, progress: Progress) -> ShardCorpus:
    """The corpus in a directory, whatever the length of its rows.

    Args:
        directory: What `prepare` made, or a directory of shards.
        tokenizer: Name or directory of the tokenizer, where no manifest says it.
        progress: Called with a sentence now and then.

    Raises:
        DataError: no shards, or shards that cannot be used.
    """
    from pico_train.config import DataConfig

    manifest = manifests.read(directory)
    seq_len = manifest.seq_len if manifest else _row_len(directory) - 1
    config = DataConfig(source="tokens", paths=(str(directory),), seq_len=seq_len, tokenizer=tokenizer)
    return open_tokens(config, cache_root(), progress)


def _row_len(directory: Path) -> int:
    """Ids in the first row of the first shard that has one."""
    for path in sorted(directory.rglob("*.parquet")):
        try:
            with pq.ParquetFile(path) as parquet:
                check_schema(parquet.schema_arrow, where=str(path))
                for batch in parquet.iter_batches(1, columns=[COLUMN]):
                    return len(batch.column(0)[0])
        except (pa.ArrowException, OSError):
            raise DataError(f"{path}: not a whole Parquet file: it is cut short or damaged") from None
    raise DataError(f"{directory}: holds no rows of tokens: is it the right folder?")


def open_prepared(
    directory: Path, manifest: manifests.CorpusManifest, config: DataConfig, *, source: str
) -> ShardCorpus:
    """The corpus in a directory that `prepare` made.

    Raises:
        ConfigError: a tokenizer or row length was asked for that is not the corpus's.
    """
    check_tokenizer(manifest, config, where=str(directory))
    path_of = {
        name: in_directory(directory, [shard.file for shard in split.shards]) for name, split in manifest.splits.items()
    }
    return prepared_corpus(
        manifest,
        path_of,
        directory / manifests.TOKENIZER_DIR,
        source=source,
        order=config.order,
        seq_len=config.seq_len,
        where=str(directory),
        details={},
        directory=directory,
    )


def check_tokenizer(manifest: manifests.CorpusManifest, config: DataConfig, *, where: str) -> None:
    """Raise ConfigError if the configuration names another tokenizer than the corpus was made with."""
    if config.source in ("stdlib", "repeats", "text") or config.tokenizer in (None, manifest.tokenizer.name):
        return
    given = Path(str(config.tokenizer)).expanduser()
    if given.is_dir() and tokenizers.describe(given).sha256 == manifest.tokenizer.sha256:
        return
    raise ConfigError(
        f"data.tokenizer={config.tokenizer}, but {where} was made with {manifest.tokenizer.name}, which lies with it: "
        "set data.tokenizer=null"
    )


def bare_corpus(
    config: DataConfig,
    cache: Path,
    *,
    counts: dict[str, list[int]],
    path_of: Mapping[str, Callable[[int], Path]],
    identity: Sequence[Sequence[str | int]],
    where: str,
    details: dict[str, str | int | float | bool | None],
    directory: Path | None = None,
) -> ShardCorpus:
    """The corpus of shards that came without a manifest.

    Args:
        config: The section `data`.
        cache: Directory of the caches.
        counts: Rows of each shard, by split.
        path_of: Puts a shard, by number, on this disk, by split.
        identity: What identifies each training shard.
        where: The corpus's name in errors.
        details: For the fingerprint.
        directory: Where the shards lie, if they stay there.

    Raises:
        ConfigError: no tokenizer is named, or there is no such one.
        DataError: no rows.
    """
    if config.tokenizer is None:
        raise ConfigError(
            f"{where}: says nothing of its tokenizer: name it, such as --set data.tokenizer=allenai/OLMo-7B-0724-hf"
        )
    info = cached_tokenizer(config.tokenizer, cache)
    shape = {
        "row_len": config.seq_len + 1,
        "vocab_size": info.vocab_size,
        "open_shards": FEW_SHARDS if config.source == "hub" else OPEN_SHARDS,
    }
    train = ShardedRows(counts["train"], path_of["train"], **shape)
    n_rows = train.index.n_rows
    if not n_rows:
        raise DataError(f"{where}: the corpus is empty: its shards hold no rows")
    held_out = ShardedRows(counts["val"], path_of["val"], **shape) if counts["val"] else None
    fingerprint = DataFingerprint(
        source=config.source,
        sha256=hashlib.sha256(json.dumps([config.seq_len, identity]).encode()).hexdigest(),
        n_rows=n_rows,
        seq_len=config.seq_len,
        vocab_size=info.vocab_size,
        tokenizer_sha256=info.sha256,
        order=config.order,
        details={**details, "tokenizer": config.tokenizer},
    )
    return ShardCorpus(
        fingerprint,
        info.directory,
        info.vocab_size,
        info.eos_id,
        train=train,
        held_out=held_out,
        where=where,
        directory=directory,
    )


def cached_tokenizer(name: str, cache: Path) -> tokenizers.TokenizerInfo:
    """A tokenizer by name or directory, kept in the cache once it was fetched from the Hub.

    Raises:
        ConfigError: no such directory or name.
        StorageError: the Hub cannot be reached.
    """
    given = Path(name).expanduser()
    if (given / "tokenizer.json").is_file():
        return tokenizers.describe(given, cache=cache)
    directory = cache / "tokenizers" / hashlib.sha256(name.encode()).hexdigest()[:16]
    if not (directory / "tokenizer.json").is_file():
        tokenizers.obtain(name, directory)
    return tokenizers.describe(directory, cache=cache)
