"""The default corpus: the source text of this Python's own standard library, which every user has."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from pico_train.data.prepare.documents import Document
from pico_train.errors import DataError

SKIPPED = frozenset(
    {
        *("site-packages", "dist-packages", "lib-dynload", "__pycache__", "__phello__", "_bundled", "ensurepip"),
        *("test", "tests", "idle_test", "_test", "lib2to3", "encodings"),
    }
)
"""Directories left out: other people's packages, tests, and tables (`encodings`) or dead code that teach little."""


def library() -> Path:
    """The directory of the standard library.

    Raises:
        DataError: no sources are installed here.
    """
    root = Path(sysconfig.get_path("stdlib"))
    if not (root / "os.py").is_file():
        raise DataError(
            f"no Python sources are installed at {root}: train on other text with "
            "--set data.source=text --set data.paths=[FILE_OR_FOLDER]"
        )
    return root


def documents(root: Path | None = None) -> Iterator[Document]:
    """The modules of the standard library, by path: the same files in the same order on every machine that has them.

    Raises:
        DataError: no sources are installed here.
    """
    root = root or library()
    for directory, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in SKIPPED and not name.startswith("config-"))
        for name in sorted(files):
            if name.endswith(".py") and not name.startswith("_sysconfigdata"):
                path = Path(directory, name)
                label = path.relative_to(root).as_posix()
                yield Document.of(path.read_text(encoding="utf-8", errors="replace"), source=label)


def label() -> str:
    """What this corpus is, for its manifest."""
    return f"standard library of {sys.implementation.name} {sys.version.split()[0]}"
