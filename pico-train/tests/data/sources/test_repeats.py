"""The made corpus of repeated words: what each row is, and that nothing but the row itself predicts it."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from pico_train.config import DataConfig, RunConfig
from pico_train.data.corpus import open_corpus
from pico_train.data.sources import repeats
from pico_train.data.sources.repeats import ROWS, SHORTEST, WORDS

T = 32


def period(row: np.ndarray) -> int:
    """The shortest distance at which a row repeats itself."""
    return next(m for m in range(1, len(row) + 1) if (row[m:] == row[:-m]).all())


def test_a_row_repeats_one_segment_of_its_own_length() -> None:
    rows = [repeats.row(number, T) for number in range(400)]
    periods = np.array([period(row) for row in rows])
    assert {len(row) for row in rows} == {T + 1}
    assert periods.min() == SHORTEST and periods.max() == T // 2, "all lengths, none longer than half of what is read"
    counts = np.bincount(periods)[SHORTEST:]
    assert counts.min() > 20 and counts.max() < 90, "about 44 of each of 9 lengths"


def test_words_are_equally_frequent_and_tell_nothing_of_the_next() -> None:
    segments = [repeats.row(number, 64)[:SHORTEST] for number in range(8000)]
    first, second = np.concatenate([s[:-1] for s in segments]), np.concatenate([s[1:] for s in segments])
    counts = np.bincount(first, minlength=len(WORDS))
    expected = len(first) / len(WORDS)
    assert ((counts - expected) ** 2 / expected).sum() < len(WORDS) + 5 * np.sqrt(2 * len(WORDS)), "χ², 676 words"
    table = np.histogram2d(first % 26, second % 26, bins=26)[0]
    expected = len(first) / 26**2
    assert ((table - expected) ** 2 / expected).sum() < 26**2 + 5 * np.sqrt(2 * 26**2), "χ², pairs"


def test_the_text_is_the_same_everywhere() -> None:
    """The digest is that of this text when it was first made: another one would be another corpus of the same name."""
    state = hashlib.sha256()
    for number in range(100):
        state.update(repeats.row(number, T).astype("<u4").tobytes())
    assert state.hexdigest() == DIGEST


DIGEST = "26bdef470c14a13a2f675b83c8dcd16b279f540cc0f75852df231eefbd0889c5"


@pytest.mark.usefixtures("cache")
def test_a_row_of_the_corpus_is_a_row_of_the_text_one_token_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "DOCUMENTS", 24)  # enough for every word to be seen
    config = DataConfig.model_validate({"source": "repeats", "seq_len": T, "val_fraction": 0.2})
    assert config.tokenizer == "train:959"
    corpus = open_corpus(config)
    assert corpus.fingerprint.source == "repeats" and corpus.vocab_size == 959
    ids = corpus.rows(np.arange(corpus.n_rows))
    sources = [int(name.removeprefix("repeats/")) for name in corpus.sources(np.arange(corpus.n_rows))]
    assert corpus.n_rows + corpus.n_validation_rows == 24 * ROWS
    assert (ids == corpus.eos_id).sum() == corpus.n_rows // ROWS, "one row of 64 ends with the end of text"
    whole = [row for row in ids if corpus.eos_id not in row]
    assert {period(row) for row in whole} == set(range(SHORTEST, T // 2 + 1))
    known: dict[int, int] = {}
    for at, row in enumerate(ids):
        words = repeats.row(sources[at] * ROWS + at % ROWS, T)
        for word, token in zip(words, row, strict=True):
            if token != corpus.eos_id:
                assert known.setdefault(int(word), int(token)) == token, "a word is always the same token"
    assert len(set(known.values())) == len(known) == len(WORDS)


def test_rows_too_short_to_repeat_are_refused() -> None:
    with pytest.raises(ValueError, match=r"data\.seq_len=15 is too short for data\.source=repeats"):
        DataConfig.model_validate({"source": "repeats", "seq_len": 15})
    with pytest.raises(ValueError, match=r"is not read by data\.source=repeats"):
        RunConfig.model_validate({"data": {"source": "repeats", "paths": ["texts"]}})
