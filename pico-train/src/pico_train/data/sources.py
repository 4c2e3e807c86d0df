"""The four kinds of source: the standard library, text, tokens, a Hub repository."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pico_train.data import stdlib
from pico_train.data.corpus import Corpus
from pico_train.data.prepare import prepare
from pico_train.data.prepared import PreparedCorpus
from pico_train.data.recipe import Inputs, Recipe

if TYPE_CHECKING:
    from pico_train.config import DataConfig

HELD_OUT = 0.05
"""Part of the documents that is held out of a corpus prepared on the spot."""


def open_stdlib(config: DataConfig, cache: Path, progress: Callable[[str], None]) -> Corpus:
    """The standard library's text, prepared in the cache at its first use."""
    documents = list(stdlib.documents())
    state = hashlib.sha256()
    for document in documents:
        state.update(document.source.encode() + b"\0" + document.digest)
    recipe = Recipe(
        tokenizer=config.tokenizer or "train:4096",
        seq_len=config.seq_len,
        shuffle_seed=None,
        val_fraction=HELD_OUT,
        source=stdlib.label(),
        license="PSF-2.0",
    )
    inputs = Inputs(state.hexdigest(), train=lambda: documents)
    name = hashlib.sha256(f"{inputs.identity} {recipe}".encode()).hexdigest()[:16]
    directory = cache / "corpora" / f"stdlib-{name}"
    manifest = prepare(inputs, recipe, directory, progress=progress)
    return PreparedCorpus(directory, manifest, source="stdlib", order=config.order)
