"""What tests of several rooms begin from: a text to train on, and small corpora, made once per test process."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from support import tiny
from support.corpora import SEQ_LEN, make_text, tokens_config

from pico_train.config import DataConfig
from pico_train.data.corpus import open_corpus
from pico_train.data.prepare.inputs import text_inputs
from pico_train.data.prepare.pipeline import prepare
from pico_train.data.prepare.recipe import Recipe
from pico_train.data.prepare.records import TextLayout
from pico_train.data.shards.manifest import CorpusManifest
from pico_train.data.shards.shard_corpus import ShardCorpus

# How long an example takes says nothing on a machine that does other things as well.
settings.register_profile("quick", deadline=None, max_examples=25)
settings.register_profile("thorough", deadline=None, max_examples=200)
settings.load_profile("quick")


def pytest_configure(config: pytest.Config) -> None:
    """More examples of each property with `--slow`.

    A runner in the background (`nohup`, a script's `&`) ignores Ctrl-C, and so would all that tests start.
    """
    if config.getoption("slow", False) and not config.getoption("hypothesis_profile"):
        settings.load_profile("thorough")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def text_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty text files in two folders."""
    root = tmp_path_factory.mktemp("text")
    for number in range(40):
        folder = root / ("web" if number % 2 else "books")
        folder.mkdir(exist_ok=True)
        (folder / f"{number:02}.txt").write_text(make_text(number, 300), encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def prepare_text() -> Callable[..., CorpusManifest]:
    """`prepare_text(paths, out, workers=1, val=(), layout=TextLayout(), **recipe)`."""

    def make(
        paths: list[Path | str],
        out: Path,
        *,
        workers: int = 1,
        val: tuple[Path, ...] = (),
        layout: TextLayout | None = None,
        **recipe: object,
    ) -> CorpusManifest:
        settings = {"tokenizer": "train:300", "seq_len": SEQ_LEN, "rows_per_shard": 100, **recipe}
        inputs = text_inputs([str(path) for path in paths], [str(path) for path in val], layout or TextLayout())
        return prepare(inputs, Recipe(**settings), out, workers=workers)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def corpus_dir(
    text_dir: Path, tmp_path_factory: pytest.TempPathFactory, prepare_text: Callable[..., CorpusManifest]
) -> Path:
    """The text, prepared: several shards of 100 rows, a tenth of the documents held out."""
    out = tmp_path_factory.mktemp("prepared") / "corpus"
    prepare_text([text_dir], out, val_fraction=0.1)
    return out


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache directory of the test's own."""
    monkeypatch.setenv("PICO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def corpus(corpus_dir: Path, cache: Path) -> ShardCorpus:
    """The prepared corpus, open."""
    return open_corpus(tokens_config(corpus_dir), cache_dir=cache)


@pytest.fixture
def bare(tmp_path: Path, corpus_dir: Path) -> Callable[..., DataConfig]:
    """`bare(**settings)`: configuration of a directory `shards` that has no manifest."""

    def config(**settings: object) -> DataConfig:
        return tokens_config(tmp_path / "shards", tokenizer=str(corpus_dir / "tokenizer"), **settings)

    return config


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The text that the training runs learn from; what is prepared of it is kept for the session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PICO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield tiny.write_text(tmp_path_factory.mktemp("text"))
