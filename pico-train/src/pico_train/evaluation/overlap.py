"""Whether what is evaluated was trained on: documents that share spans of 50 tokens with training rows are counted.

A document is a near duplicate if it shares a span with them, and a copy if they have at least half of its spans: of a
text that was trained on all but those that lay across the end of a row. Where rows have fewer than 100 tokens, a span
is half a row. Spans are compared by 64-bit hashes (polynomials of mixed token ids, modulo 2^64), so that a chance match
among 10^9 spans has a probability below 10^-9 for each. A corpus that is larger than `most` tokens is looked at in its
first rows only, and the answer says how many.

Letters: n ids, S of a span.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pico_train.counting import counted
from pico_train.data.corpus import Corpus
from pico_train.errors import DataError

SPAN = 50
"""Tokens of a span."""
MOST_TOKENS = 2**26
"""Training tokens that are looked at, at most."""
_ROWS = 2048
"""Training rows read at once."""
_FACTOR = 0x9E3779B97F4A7C15
"""An odd number: invertible modulo 2^64."""


@dataclass(frozen=True)
class Overlap:
    """What was found."""

    near_duplicates: int
    """Documents that share at least one span."""
    copies: tuple[int, ...]
    """Numbers of documents of which at least half of the spans are there."""
    rows_compared: int
    """Training rows that were looked at."""
    n_rows: int
    """Training rows that there are."""

    @property
    def counts(self) -> dict[str, int]:
        """For the results."""
        return {"n_near_duplicates": self.near_duplicates, "n_rows_compared": self.rows_compared}

    def refuse_copies(self, name: str, n_documents: int) -> None:
        """Raise where whole documents were trained on.

        Raises:
            DataError: there are such.
        """
        if self.copies:
            raise DataError(
                f"{name}: {len(self.copies)} of {counted(n_documents, 'document')} (the first is number "
                f"{self.copies[0]}) stand in the training rows: leave them out, or give --allow-overlap "
                "(evaluation.allow_overlap)"
            )


def span_hashes(ids: np.ndarray, span: int = SPAN) -> np.ndarray:
    """A hash of each span of consecutive ids along the last axis, (…, n − S + 1) uint64: equal of equal spans."""
    n = ids.shape[-1]
    if n < span:
        return np.empty((*ids.shape[:-1], 0), np.uint64)
    powers, inverses = _powers(n)
    terms = _mixed(ids.astype(np.uint64)) * powers
    sums = np.zeros((*ids.shape[:-1], n + 1), np.uint64)
    np.cumsum(terms, axis=-1, out=sums[..., 1:])
    # Σ over a span of mixed(id) · F^place, moved to place 0.
    found: np.ndarray = (sums[..., span:] - sums[..., : n - span + 1]) * inverses[: n - span + 1]
    return found


def _powers(n: int) -> tuple[np.ndarray, np.ndarray]:
    """F^i and F^-i modulo 2^64 for i < n."""
    factors = np.full((2, n), _FACTOR, np.uint64)
    factors[1] = pow(_FACTOR, -1, 2**64)
    factors[:, 0] = 1
    powers, inverses = np.multiply.accumulate(factors, axis=1)
    return powers, inverses


def _mixed(ids: np.ndarray) -> np.ndarray:
    """Ids as numbers whose bits look random (Steele et al. 2014, SplitMix64's finalizer)."""
    mixed = (ids + np.uint64(1)) * np.uint64(_FACTOR)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: np.ndarray = mixed ^ (mixed >> np.uint64(31))
    return result


def compare(documents: Sequence[np.ndarray], corpus: Corpus, *, most: int = MOST_TOKENS) -> Overlap:
    """Look for the documents' spans among the training rows.

    Args:
        documents: Token ids of each, without what only leads it.
        corpus: Whose training rows, in their order.
        most: Training tokens looked at, at most.

    Raises:
        DataError: a training row cannot be read.
    """
    span = min(SPAN, max(1, (corpus.seq_len + 1) // 2))
    hashes = [span_hashes(document, span) for document in documents]
    wanted = np.unique(np.concatenate([*hashes, np.empty(0, np.uint64)]))
    n_rows = min(corpus.n_rows, max(1, most // (corpus.seq_len + 1)))
    found = np.zeros(len(wanted), bool)
    for start in range(0, n_rows if len(wanted) else 0, _ROWS):
        rows = corpus.rows(np.arange(start, min(start + _ROWS, n_rows)))
        spans = span_hashes(rows, span).ravel()
        places = np.minimum(np.searchsorted(wanted, spans), len(wanted) - 1)
        found[places[wanted[places] == spans]] = True
    shared = [found[np.searchsorted(wanted, each)] if len(each) else np.zeros(0, bool) for each in hashes]
    copies = tuple(number for number, each in enumerate(shared) if len(each) and each.mean() >= 0.5)
    return Overlap(sum(bool(each.any()) for each in shared), copies, n_rows, corpus.n_rows)


def check_held_out(corpus: Corpus) -> None:
    """Raise where rows that are held out are also trained on, by their place in their shards.

    Raises:
        DataError: they are.
    """
    shared = corpus.held_out_rows_trained_on
    if shared:
        raise DataError(
            f"{counted(shared, 'held-out row is', 'held-out rows are')} also trained on: name other shards with "
            "data.val_paths, or leave it out so that rows are held out"
        )
