"""What a corpus is made of and how: the recipe, its inputs, and which documents go where."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from pico_train.data.prepare.documents import DIGEST_BYTES, EMPTY, Document, fraction


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the bytes of a corpus, but for the documents."""

    tokenizer: str
    """train:N, a directory or a name on the Hub."""
    seq_len: int
    """Tokens that a row trains on."""
    shuffle_seed: int | None = 0
    """Seed of the global shuffle; None keeps training rows in reading order."""
    val_fraction: float = 0.0
    """Part of the documents that is held out, chosen by hash."""
    val_rows_per_source: int | None = None
    """Held-out rows kept per source."""
    sample: float = 1.0
    """Part of the training documents that is used, chosen by hash."""
    max_rows: int | None = None
    """Training rows kept: the first of the shuffled order."""
    rows_per_shard: int = 20_480
    """Rows of a shard."""
    compression: str = "none"
    """none, zstd, snappy or gzip."""
    source: str | None = None
    """Where the text is from, for the manifest."""
    license: str | None = None
    """Its licence, for the manifest."""


@dataclass(frozen=True)
class Inputs:
    """Documents to prepare. Each function gives the same documents in the same order at every call."""

    identity: str
    """Digest of what the inputs are here and now: an interrupted preparation of other inputs is not continued."""
    train: Callable[[], Iterable[Document]]
    """Documents to train on (and to hold a fraction out of)."""
    val: Callable[[], Iterable[Document]] | None = None
    """Documents to hold out."""
    bytes: int | None = None
    """Size of the training text, if known."""


@dataclass
class DocumentSplits:
    """Which documents go to which split.

    A held-out document is chosen by the hash of its text, so all its copies are held out with it; a training document
    that is also among the held-out inputs is left out. Where the end of the corpus is held out, all documents count as
    training ones here, each text once.
    """

    inputs: Inputs
    recipe: Recipe
    end_held_out: bool = False

    def __post_init__(self) -> None:
        self.documents: Counter[str] = Counter()
        """Documents taken, by split."""
        self.left_out: Counter[str] = Counter()
        """Documents not taken, by reason."""
        self._state = hashlib.sha256()
        self._taken_once: set[bytes] = set()

    @property
    def sha256(self) -> str:
        """Digest over all documents taken, their sources, order and splits; complete when iteration is."""
        return self._state.hexdigest()

    def __iter__(self) -> Iterator[tuple[str, Document]]:
        """Split and document, held-out inputs first. The counts are complete when it ends."""
        self.documents.clear()
        self.left_out.clear()
        self._state = hashlib.sha256()
        self._taken_once.clear()
        held_out: list[bytes] = []
        for document in self.inputs.val() if self.inputs.val else ():
            if document.digest == EMPTY:
                self.left_out[document.reason] += 1
                continue
            held_out.append(document.digest)
            yield self._taken("val", document)
        known = np.unique(np.array(held_out, dtype=f"S{DIGEST_BYTES}"))
        del held_out
        for document in self.inputs.train():
            split = self._split(document, known)
            if split is not None:
                yield self._taken(split, document)

    def _taken(self, split: str, document: Document) -> tuple[str, Document]:
        self.documents[split] += 1
        self._state.update(f"{split} {document.source}\n".encode("utf-8", "surrogatepass") + document.digest)
        return split, document

    def _split(self, document: Document, known: np.ndarray) -> str | None:
        if document.digest == EMPTY:
            self.left_out[document.reason] += 1
            return None
        if len(known):
            here = np.bytes_(document.digest)
            place = int(np.searchsorted(known, here))
            if place < len(known) and known[place] == here:
                self.left_out["also_held_out"] += 1
                return None
        if self.end_held_out:
            if document.digest in self._taken_once:
                self.left_out["repeated"] += 1
                return None
            self._taken_once.add(document.digest)
        elif fraction(document.digest) < self.recipe.val_fraction:
            return "val"
        if fraction(document.digest[8:]) >= self.recipe.sample:
            self.left_out["not_sampled"] += 1
            return None
        return "train"
