"""The examples of docstrings: they run as they stand. Those of documents are run by the conformance suite."""

from __future__ import annotations

import doctest
import shutil
from pathlib import Path
from typing import Any

import pytest

from pico_train import run
from pico_train.data.sources import stdlib


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: Path) -> Path:
    """An empty working directory, the cache of the session (`text` sees to it), and a part of the standard library."""
    del text
    part = tmp_path / "library"
    part.mkdir()
    for path in sorted(stdlib.library().glob("[a-d]*.py")):
        shutil.copy(path, part)
    monkeypatch.setattr(stdlib, "library", lambda: part)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_example_of_train(elsewhere: Path) -> None:
    [example] = doctest.DocTestFinder(recurse=False).find(run.train, "train", globs={})
    names: dict[str, Any] = {}
    for line in example.examples:
        exec(compile(line.source, "train", "single"), names)
    assert (elsewhere / "runs/short/run.json").is_file()
    assert names["summary"].run_dir == Path("runs/short")
