"""Rows that a corpus of shards does not have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pico_train.data.shards.shard_corpus import ShardCorpus
from pico_train.errors import DataError


def test_where_fewer_rows_are_held_out_than_are_to_be_scored_it_is_all_of_them(corpus: ShardCorpus) -> None:
    there = corpus.n_validation_rows
    np.testing.assert_array_equal(corpus.validation(there + 1), corpus.validation(there))
    assert corpus.validation_sources(there + 1) == corpus.validation_sources(there)
    said = corpus.describe_held_out(there + 1)
    assert f"held out: {there} rows" in said
    assert f"fewer than data.val_rows={there + 1}: data.val_fraction or data.val_paths hold out more" in said
    assert "fewer" not in corpus.describe_held_out(there)


def test_where_nothing_is_held_out_there_is_nothing_to_score(corpus: ShardCorpus) -> None:
    with pytest.raises(DataError, match="nothing is held out: hold out more text"):
        replace(corpus, held_out=None).validation(1)


def test_rows_that_do_not_exist_are_refused(corpus: ShardCorpus) -> None:
    with pytest.raises(
        DataError, match=rf"row {corpus.n_rows} does not exist: the corpus has rows 0 to {corpus.n_rows - 1}"
    ):
        corpus.rows(np.array([0, corpus.n_rows]))
