"""Spans that documents share with training rows: against sets of tuples, and which documents are copies."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_train.errors import DataError
from pico_train.evaluation import overlap
from pico_train.evaluation.overlap import SPAN, check_held_out, compare, span_hashes

T = 99


@dataclass
class Rows:
    """A corpus of rows in memory."""

    table: np.ndarray
    seq_len: int = T
    read: list[int] = field(default_factory=list)

    @property
    def n_rows(self) -> int:
        return len(self.table)

    def rows(self, ids: np.ndarray) -> np.ndarray:
        self.read += ids.tolist()
        return self.table[ids]


@given(seed=st.integers(0, 99), vocabulary=st.sampled_from([2, 50_000]), n=st.integers(0, 130))
def test_hashes_are_equal_where_spans_are(seed, vocabulary, n):
    ids = np.random.default_rng(seed).integers(0, vocabulary, n).astype(np.int32)
    ids[n // 2 :] = ids[: n - n // 2]  # a repetition, so that there are equal spans
    found = span_hashes(ids)
    spans = [tuple(ids[i : i + SPAN]) for i in range(n - SPAN + 1)]
    assert found.shape == (max(0, n - SPAN + 1),)
    assert len(set(found.tolist())) == len(set(spans))
    by_span = dict(zip(spans, found.tolist(), strict=True))
    assert [by_span[span] for span in spans] == found.tolist()


@pytest.fixture
def corpus():
    return Rows(np.random.default_rng(0).integers(0, 1000, (40, T + 1)).astype(np.int32))


def test_near_duplicates_are_counted_and_copies_named(corpus):
    new = np.random.default_rng(1).integers(0, 1000, (4, 120)).astype(np.int32)
    shares = new[1].copy()
    shares[30 : 30 + SPAN] = corpus.table[7, 20 : 20 + SPAN]
    short = new[2].copy()
    short[30 : 30 + SPAN - 1] = corpus.table[7, 20 : 20 + SPAN - 1]
    across = np.concatenate([corpus.table[5, 20:], corpus.table[6, :90]])  # a text over the end of a row
    documents = [new[0], shares, short, across, corpus.table[39, 10:80], new[3, : SPAN - 1]]
    found = compare(documents, corpus)
    assert (found.near_duplicates, found.copies) == (3, (3, 4))
    assert found.counts == {"n_near_duplicates": 3, "n_rows_compared": 40}
    with pytest.raises(DataError, match=r"2 of 6 documents .* stand in the training rows.*--allow-overlap"):
        found.refuse_copies("task x", 6)
    compare(documents[:3], corpus).refuse_copies("task x", 3)


def test_of_a_large_corpus_the_first_rows_are_looked_at(corpus, monkeypatch):
    monkeypatch.setattr(overlap, "_ROWS", 4)
    found = compare([corpus.table[3], corpus.table[30]], corpus, most=10 * (T + 1))
    assert (found.copies, found.rows_compared, found.n_rows) == ((0,), 10, 40)
    assert corpus.read == list(range(10))


def test_held_out_rows_are_told_from_training_rows_by_their_place(corpus_dir, corpus_with):
    check_held_out(corpus_with())
    again = corpus_with(val_paths=(str(corpus_dir),))
    assert again.held_out_rows_trained_on == 0, "the held-out split of the same directory is other files"


@pytest.fixture
def corpus_with(corpus_dir, cache):
    from support.corpora import tokens_config

    from pico_train.data.corpus import open_corpus

    return lambda **changes: open_corpus(tokens_config(corpus_dir, **changes), cache_dir=cache)


def test_shards_that_are_both_are_refused(bare, corpus_dir, cache, tmp_path):
    """Shards without a manifest, named as held-out ones too."""
    import shutil

    from pico_train.data.corpus import open_corpus

    shards = tmp_path / "shards"
    shards.mkdir()
    for path in corpus_dir.rglob("*.parquet"):
        if "train" in path.as_posix():
            shutil.copy(path, shards / path.name)
    corpus = open_corpus(bare(val_paths=(str(shards),)), cache_dir=cache)
    with pytest.raises(DataError, match="held-out rows are also trained on"):
        check_held_out(corpus)
    own = open_corpus(bare(), cache_dir=cache)
    check_held_out(own)
