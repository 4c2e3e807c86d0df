"""The examples that people copy: they run as they stand."""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from typing import Any

import pytest

from pico_schema import documents
from pico_train import run

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: Path) -> Path:
    """An empty working directory, and the cache of the session (`text` sees to it)."""
    del text
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_readme_from_python(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    section = README.read_text(encoding="utf-8").split("## From Python\n")[1]
    [block] = re.findall(r"```python\n(.*?)```", section, re.S)
    exec(compile(block, str(README), "exec"), {})
    said = capsys.readouterr()
    assert "runs/short " in said.out
    assert [step for step, _ in documents.checkpoint_dirs(elsewhere / "runs/short")][-1] == 8


def test_the_example_of_train(elsewhere: Path) -> None:
    [example] = doctest.DocTestFinder(recurse=False).find(run.train, "train", globs={})
    names: dict[str, Any] = {}
    for line in example.examples:
        exec(compile(line.source, "train", "single"), names)
    assert (elsewhere / "runs/short/run.json").is_file()
    assert names["summary"].run_dir == Path("runs/short")
