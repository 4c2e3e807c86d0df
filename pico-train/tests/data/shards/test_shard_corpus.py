"""Rows that a corpus of shards does not have."""

from __future__ import annotations

import numpy as np
import pytest

from pico_train.data.shards.shard_corpus import ShardCorpus
from pico_train.errors import DataError


def test_too_few_held_out_rows_are_refused(corpus: ShardCorpus) -> None:
    there = corpus.n_validation_rows
    with pytest.raises(
        DataError, match=rf"has {there} held-out rows, {there + 1} were asked for: set data.val_rows={there}"
    ):
        corpus.validation(there + 1)


def test_rows_that_do_not_exist_are_refused(corpus: ShardCorpus) -> None:
    with pytest.raises(
        DataError, match=rf"row {corpus.n_rows} does not exist: the corpus has rows 0 to {corpus.n_rows - 1}"
    ):
        corpus.rows(np.array([0, corpus.n_rows]))
