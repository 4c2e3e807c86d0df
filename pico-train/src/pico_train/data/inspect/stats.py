"""What a corpus is made of: rows, tokens, documents, sources, how its tokens are spread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pico_train.data import tokenizer as tokenizers
from pico_train.data.shards.shard_corpus import ShardCorpus

BLOCK_BYTES = 8 * 2**20
MOST_SOURCES = 10_000


@dataclass(frozen=True)
class SplitStats:
    """One split, counted."""

    split: str
    """train or val."""
    rows: int
    """Rows counted."""
    rows_in_all: int
    """Rows that there are."""
    tokens: int
    """Tokens in the rows counted."""
    ends: int
    """End-of-text tokens among them: about as many documents."""
    distinct: int
    """Ids that occur."""
    vocab_size: int
    """Ids that could."""
    entropy: float
    """Entropy of the ids' frequencies, in bits per token: 0 to log2(vocab_size)."""
    repeated_rows: int
    """Rows that occurred before among those counted."""
    frequent: tuple[tuple[str, float], ...]
    """The ten most frequent tokens, as text, and their share."""
    sources: tuple[tuple[str, int], ...]
    """Sources and their rows, largest first; empty where rows do not say, or more than 10,000 differ."""


def count(
    corpus: ShardCorpus, *, limit: int | None = None, progress: Callable[[str], None] = lambda _: None
) -> list[SplitStats]:
    """Statistics of the splits of a corpus.

    Args:
        corpus: The corpus.
        limit: Rows to count per split, evenly spaced; None counts all.
        progress: Called with a sentence now and then.
    """
    splits: list[tuple[str, int, Callable[[np.ndarray], tuple[np.ndarray, list[str]]]]] = [
        ("train", corpus.n_rows, lambda ids: (corpus.rows(ids), corpus.sources(ids)))
    ]
    held_out = corpus.held_out
    if held_out is not None:
        first = corpus.held_out_from
        splits.append(
            ("val", corpus.n_validation_rows, lambda ids: (held_out.rows(first + ids), held_out.sources(first + ids)))
        )
    return [_count(corpus, name, n_rows, read, limit, progress) for name, n_rows, read in splits]


def _count(
    corpus: ShardCorpus,
    split: str,
    n_rows: int,
    read: Callable[[np.ndarray], tuple[np.ndarray, list[str]]],
    limit: int | None,
    progress: Callable[[str], None],
) -> SplitStats:
    wanted = n_rows if limit is None else min(limit, n_rows)
    ids = np.arange(wanted, dtype=np.int64) * n_rows // max(wanted, 1)
    frequencies = np.zeros(corpus.vocab_size, np.int64)
    sources: Counter[str] = Counter()
    digests: list[np.ndarray] = []
    step = max(1, BLOCK_BYTES // (4 * (corpus.seq_len + 1)))
    for first in range(0, wanted, step):
        rows, names = read(ids[first : first + step])
        frequencies += np.bincount(rows.reshape(-1), minlength=corpus.vocab_size)
        digests.append(_row_hashes(rows))
        if len(sources) <= MOST_SOURCES:
            sources.update(name for name in names if name)
        if first and (first // step) % 64 == 0:
            progress(f"counted {first:,} of {wanted:,} {split} rows")
    shares = frequencies[frequencies > 0] / max(1, frequencies.sum())
    top = np.argsort(frequencies, kind="stable")[::-1][:10]
    tokenizer = tokenizers.load(corpus.tokenizer_dir)
    hashes = np.concatenate(digests) if digests else np.empty(0, np.uint64)
    return SplitStats(
        split=split,
        rows=wanted,
        rows_in_all=n_rows,
        tokens=int(frequencies.sum()),
        ends=int(frequencies[corpus.eos_id]),
        distinct=int((frequencies > 0).sum()),
        vocab_size=corpus.vocab_size,
        entropy=float(-(shares * np.log2(shares)).sum()) + 0.0,
        repeated_rows=len(hashes) - len(np.unique(hashes)),
        frequent=tuple(
            (tokenizer.decode([int(i)], skip_special_tokens=False), float(frequencies[i] / max(1, frequencies.sum())))
            for i in top
            if frequencies[i]
        ),
        sources=tuple(sources.most_common()) if len(sources) <= MOST_SOURCES else (),
    )


def _row_hashes(rows: np.ndarray) -> np.ndarray:
    """(k,) uint64: a polynomial hash of each row of (k, T + 1); equal rows have equal hashes."""
    powers = np.empty(rows.shape[1], np.uint64)
    power = 1
    for place in range(len(powers)):
        powers[place] = power
        power = power * 0x9E3779B97F4A7C15 % 2**64
    with np.errstate(over="ignore"):
        hashed: np.ndarray = ((rows.astype(np.uint64) + np.uint64(1)) * powers).sum(axis=1, dtype=np.uint64)
    return hashed
