"""Sources `stdlib`, `repeats` and `text`: text that is prepared in the cache at its first use, and found
there afterwards."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pico_train.data.prepare.inputs import text_inputs
from pico_train.data.prepare.pipeline import corpus_key, prepare
from pico_train.data.prepare.recipe import Inputs, Recipe
from pico_train.data.prepare.records import TextLayout
from pico_train.data.shards.manifest import met_in_text
from pico_train.data.shards.shard_corpus import ShardCorpus
from pico_train.data.sources import repeats, stdlib
from pico_train.data.sources.tokens import open_prepared

if TYPE_CHECKING:
    from pico_train.config import DataConfig
    from pico_train.data.prepare.documents import Document

Progress = Callable[[str], None]

ONE_PROCESS = 64 * 2**20
"""Bytes of text up to which starting more processes takes longer than it saves."""


def open_stdlib(config: DataConfig, cache: Path, progress: Progress) -> ShardCorpus:
    """The standard library's text.

    Raises:
        DataError: no sources are installed.
    """
    recipe = _recipe(config, source=stdlib.label(), license="PSF-2.0")
    return _open(_in_memory(stdlib.documents()), recipe, config, cache, progress)


def open_repeats(config: DataConfig, cache: Path, progress: Progress) -> ShardCorpus:
    """Random words, repeated within each row."""
    recipe = _recipe(config, source=repeats.label(), license=None)
    return _open(_in_memory(repeats.documents(config.seq_len)), recipe, config, cache, progress)


def _in_memory(found: Iterable[Document]) -> Inputs:
    documents = list(found)
    size = sum(len(part) for document in documents for part in document.parts())
    state = hashlib.sha256()
    for document in documents:
        state.update(document.source.encode() + b"\0" + document.digest)
    return Inputs(state.hexdigest(), train=lambda: documents, bytes=size)


def open_text(config: DataConfig, cache: Path, progress: Progress) -> ShardCorpus:
    """The text in the files that `config.paths` names.

    Raises:
        ConfigError: a path names nothing.
        DataError: a file cannot be used, or there is too little text.
    """
    layout = TextLayout(column=config.text_column, errors=config.encoding_errors)
    inputs = text_inputs(config.paths, config.val_paths, layout)
    for sentence in inputs.warnings():
        progress(f"warning: {sentence}")
    recipe = _recipe(config, source=", ".join(config.paths)[:1000], license=None)
    return _open(inputs, recipe, config, cache, progress)


def _recipe(config: DataConfig, *, source: str, license: str | None) -> Recipe:
    return Recipe(
        tokenizer=config.tokenizer or "train:4096",
        seq_len=config.seq_len,
        shuffle_seed=None,
        val_fraction=0.0 if config.val_paths else config.val_fraction,
        source=source,
        license=license,
    )


def _open(inputs: Inputs, recipe: Recipe, config: DataConfig, cache: Path, progress: Progress) -> ShardCorpus:
    name = corpus_key(inputs, recipe)[:16]  # also of the format: what another version left is not found, not refused
    directory = cache / "corpora" / f"{config.source}-{name}"
    small = inputs.bytes is not None and inputs.bytes <= ONE_PROCESS
    workers = 1 if small else os.cpu_count()
    manifest = prepare(inputs, recipe, directory, workers=workers or 1, progress=progress)
    for sentence in met_in_text(manifest):
        progress(sentence)
    return open_prepared(directory, manifest, config, source=config.source)
