"""What patterns name, and in which order."""

from __future__ import annotations

from pathlib import Path

import pytest

from pico_train.data.prepare.inputs import documents, find
from pico_train.data.prepare.reading import TextLayout
from pico_train.errors import ConfigError


def test_folders_and_globs_name_files_in_a_fixed_order(text_dir: Path) -> None:
    by_folder = [item.label for item in find([str(text_dir)])]  # type: ignore[union-attr]
    assert by_folder[:2] == ["books/00.txt", "books/02.txt"]
    assert [item.label for item in find([f"{text_dir}/**/*.txt"])] == by_folder  # type: ignore[union-attr]
    assert len(find([str(text_dir), str(text_dir / "web")])) == 40, "nothing twice"
    sources = {document.source for document in documents(find([str(text_dir)]), TextLayout(group_by_folder=True))}
    assert sources == {"books", "web"}


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("nowhere", r"nowhere: no such file or folder"),
        ("*.nothing", r"\*\.nothing: no text there: name files, globs, or folders with files ending in \.txt, \.md"),
        ("hf://datasets/only-a-name", r"hf://datasets/only-a-name: not a dataset"),
    ],
)
def test_patterns_that_name_nothing_are_refused(pattern: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find([pattern])
