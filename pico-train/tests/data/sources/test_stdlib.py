"""The standard library as a corpus."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pico_train.config import DataConfig
from pico_train.data.corpus import open_corpus
from pico_train.data.loader import Loader
from pico_train.data.sources import stdlib
from pico_train.data.tokenizer import describe
from pico_train.errors import DataError


def test_the_standard_library_is_found_and_leaves_tests_out() -> None:
    sources = [document.source for document in stdlib.documents()]
    assert {"os.py", "json/decoder.py", "asyncio/events.py"} <= set(sources)
    assert len(sources) == len(set(sources))
    for part in ("test", "tests", "site-packages", "idle_test", "__pycache__", "lib2to3"):
        assert not any(part in source.split("/")[:-1] for source in sources)
    assert sources == [document.source for document in stdlib.documents()]


@pytest.mark.usefixtures("cache")
def test_the_standard_library_trains_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a tenth of it, so that this takes a second."""
    everything = list(stdlib.documents())
    monkeypatch.setattr(stdlib, "documents", lambda _root=None: iter(everything[::5]))
    config = DataConfig.model_validate({"seq_len": 64, "tokenizer": "train:500", "val_fraction": 0.2})
    corpus = open_corpus(config)
    assert corpus.fingerprint.source == "stdlib"
    assert corpus.fingerprint.details["license"] == "PSF-2.0"
    assert describe(corpus.tokenizer_dir).eos_id == corpus.eos_id
    assert corpus.validation(40).shape == (40, 65)
    held_out = set(corpus.validation_sources(corpus.n_validation_rows))
    assert not held_out & set(corpus.sources(np.arange(corpus.n_rows))), "whole files are held out"
    assert len(held_out) >= 2
    assert open_corpus(config).fingerprint == corpus.fingerprint
    assert next(iter(Loader(corpus, batch_size=4, order="shuffled", seed=0).from_step(0, 1))).input_ids.shape == (4, 65)


def test_no_sources_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda _name: str(tmp_path))
    with pytest.raises(
        DataError, match=r"no Python sources are installed at .*: train on other text with --set data.source=text"
    ):
        open_corpus(DataConfig())
