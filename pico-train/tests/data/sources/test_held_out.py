"""Which rows of shards are held out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.corpora import SEQ_LEN, draw_rows, tokens_config, write_shard

from pico_train.config import DataConfig
from pico_train.data.corpus import open_corpus
from pico_train.data.sources.tokens import open_directory
from pico_train.errors import ConfigError, DataError


@pytest.mark.usefixtures("cache")
def test_a_directory_of_held_out_shards_may_be_named(
    tmp_path: Path, bare: Callable[..., DataConfig], corpus_dir: Path
) -> None:
    write_shard(tmp_path / "shards/a.parquet", draw_rows(20))
    write_shard(tmp_path / "held/a.parquet", np.full((9, SEQ_LEN + 1), 7))
    assert open_corpus(bare(val_paths=(str(tmp_path / "held"),))).validation(9)[:, 0].tolist() == [7] * 9
    assert open_corpus(bare(val_paths=(str(corpus_dir),))).n_validation_rows > 20


@pytest.mark.usefixtures("cache")
def test_a_prepared_corpus_without_a_held_out_split_holds_out_its_last_rows(
    text_dir: Path, tmp_path: Path, prepare_text: Callable[..., Any], corpus_dir: Path
) -> None:
    n_rows = prepare_text([text_dir], tmp_path / "c").splits["train"].n_rows
    everything = open_directory(tmp_path / "c", None, progress=print)
    corpus = open_corpus(tokens_config(tmp_path / "c"))
    assert (everything.n_rows, corpus.n_rows) == (n_rows, n_rows - 8)
    assert np.array_equal(corpus.validation(8), everything.rows(np.arange(n_rows - 8, n_rows)))
    assert corpus.fingerprint.details["held_out"] == "the last 8 rows"
    with pytest.raises(DataError, match=rf"{n_rows:,} rows, of which {n_rows:,} would be held out"):
        open_corpus(tokens_config(tmp_path / "c", val_rows=n_rows))
    with pytest.raises(
        ConfigError, match=r"val_paths: .*: was made with another tokenizer \(train:300\) than the corpus"
    ):
        open_corpus(tokens_config(tmp_path / "c", val_paths=(str(corpus_dir),)))
    prepare_text([], tmp_path / "held", val=(text_dir / "web",), tokenizer=str(tmp_path / "c" / "tokenizer"))
    named = open_corpus(tokens_config(tmp_path / "c", val_paths=(str(tmp_path / "held"),)))
    assert named.n_rows == n_rows
    assert named.n_validation_rows > 100
