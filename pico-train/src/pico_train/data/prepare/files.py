"""Which files are text: those that are named, those in folders and globs that are named, in a fixed order.

Of a folder, files are taken whose ending says that they are text; links are followed, and nothing is read twice. What
is left aside is counted and named: a corpus that is smaller than its folder says so.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pico_train.counting import counted
from pico_train.data.naming import named
from pico_train.data.prepare.hub_text import HUB, HubText
from pico_train.data.prepare.kinds import is_saved_dataset, readable, taken_from_folder
from pico_train.data.shards.manifest import FILE as CORPUS_MANIFEST
from pico_train.data.shards.manifest import UNFINISHED
from pico_train.errors import ConfigError, DataError

MOST_NAMES = 10
"""Files that a sentence names, of however many."""


@dataclass(frozen=True)
class TextFile:
    """One file that documents are read from, or a directory that `datasets` saved."""

    path: Path
    """Where it is."""
    label: str
    """Its name in the corpus: relative to what was named, with forward slashes."""


@dataclass
class LeftAside:
    """What lies in the folders that were named and is not read."""

    other: list[str] = field(default_factory=list)
    """Files whose ending says nothing of text."""
    no_files: list[str] = field(default_factory=list)
    """Links that lead nowhere, pipes, sockets."""
    corpora: list[str] = field(default_factory=list)
    """Folders that hold prepared corpora, or unfinished ones: token rows, not text."""
    hidden: int = 0
    """Files and folders whose names begin with a dot."""
    twice: list[str] = field(default_factory=list)
    """Links, and patterns, that lead again to what is read already."""
    folders: list[str] = field(default_factory=list)
    """Folders that a glob matched: it names files."""

    def sentences(self) -> list[str]:
        """What was left aside and why, for people; none if nothing was."""
        said = []
        if self.other:
            said.append(
                f"left aside {counted(len(self.other), 'file')} whose ending is not that of text "
                f"({_names(self.other)}): name them one by one, or with a glob, to have them read"
            )
        if self.no_files:
            said.append(
                f"left aside {counted(len(self.no_files), 'path')} to a pipe, or to nothing ({_names(self.no_files)})"
            )
        if self.corpora:
            said.append(f"left aside {counted(len(self.corpora), 'folder')} of token rows ({_names(self.corpora)})")
        if self.folders:
            said.append(
                f"left aside {counted(len(self.folders), 'folder')} that a glob matched ({_names(self.folders)}): "
                "name the folder, or write ** for all folders"
            )
        if self.twice:
            said.append(f"left aside {counted(len(self.twice), 'path')} to what is read already ({_names(self.twice)})")
        if self.hidden:
            said.append(f"left aside {counted(self.hidden, 'hidden file or folder', 'hidden files or folders')}")
        return said


def _names(names: Sequence[str]) -> str:
    return named(names, MOST_NAMES)


@dataclass(frozen=True)
class Found:
    """What some patterns name."""

    items: list[TextFile | HubText]
    """To be read, in order."""
    left_aside: LeftAside
    """Not to be read."""


def find(patterns: Sequence[str]) -> Found:
    """What the patterns name, in the order given, and within each sorted by name; nothing twice.

    Raises:
        ConfigError: a pattern names nothing.
        DataError: a folder cannot be read.
    """
    return _Search().run(patterns)


class _Search:
    """One search: what was found, and the real places of files and folders that were come upon."""

    def __init__(self) -> None:
        self.found: dict[str, TextFile | HubText] = {}
        self.folders: set[str] = set()
        self.left_aside = LeftAside()

    def run(self, patterns: Sequence[str]) -> Found:
        for pattern in patterns:
            if pattern.startswith(HUB):
                self.found.setdefault(pattern, HubText.parse(pattern).pinned())
                continue
            before = len(self.found) + len(self.left_aside.twice)
            for file in self._local(pattern):
                self._take(file)
            if len(self.found) + len(self.left_aside.twice) == before:
                raise ConfigError(f"{pattern}: no text there{self._instead()}: name files, globs, or folders with "
                                  f"files ending in {readable()}")  # fmt: skip
        return Found(list(self.found.values()), self.left_aside)

    def _instead(self) -> str:
        there = self.left_aside.other
        return f", but {counted(len(there), 'other file')} ({_names(there)})" if there else ""

    def _take(self, file: TextFile) -> None:
        place = os.path.realpath(file.path)
        if place in self.found:
            self.left_aside.twice.append(str(file.path))
        else:
            self.found[place] = file

    def _local(self, pattern: str) -> Iterator[TextFile]:
        path = Path(pattern).expanduser()
        if path.is_file():
            yield TextFile(path, path.name)
        elif path.is_dir():
            yield from self._folder(path)
        elif any(sign in pattern for sign in "*?["):
            yield from self._matches(pattern, path)
        else:
            raise ConfigError(f"{pattern}: no such file or folder")

    def _matches(self, pattern: str, path: Path) -> Iterator[TextFile]:
        base = Path(*_before_wildcards(path))
        for name in sorted(glob.glob(str(path), recursive=True)):  # noqa: PTH207 - Path.glob takes no absolute pattern
            match = Path(name)
            if match.is_file() or is_saved_dataset(match):
                yield TextFile(match, match.relative_to(base).as_posix())
            elif match.is_dir() and "**" not in pattern:  # ** passes through folders on the way to files
                self.left_aside.folders.append(name)

    def _folder(self, root: Path) -> Iterator[TextFile]:
        """What is to be read in a folder and in those below it, links followed, each folder once."""
        waiting = [root]
        while waiting:
            directory = waiting.pop()
            place = os.path.realpath(directory)
            if place in self.folders:
                self.left_aside.twice.append(f"{directory}/")
            elif (directory / CORPUS_MANIFEST).is_file() or (directory / UNFINISHED).is_dir():
                self.left_aside.corpora.append(f"{directory}/")
            elif is_saved_dataset(directory):
                yield TextFile(directory, directory.name if directory == root else _label(directory, root))
            else:
                below = yield from self._files_of(directory, root)
                waiting += reversed(below)
            self.folders.add(place)

    def _files_of(self, directory: Path, root: Path) -> Generator[TextFile, None, list[Path]]:
        """The files of one folder; returns the folders in it."""
        try:
            with os.scandir(directory) as found:
                entries = sorted(found, key=lambda entry: entry.name)
            folders = []
            for entry in entries:
                path = directory / entry.name
                if entry.name.startswith("."):
                    self.left_aside.hidden += 1
                elif entry.is_dir():
                    folders.append(path)
                elif not entry.is_file():
                    self.left_aside.no_files.append(str(path))
                elif taken_from_folder(path):
                    yield TextFile(path, _label(path, root))
                else:
                    self.left_aside.other.append(str(path))
        except OSError as error:
            raise DataError(
                f"{directory}: cannot be read ({error.strerror}): see to its permissions, or leave it out with a glob"
            ) from None
        return folders


def _label(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _before_wildcards(path: Path) -> list[str]:
    parts = list(path.parts)
    wild = next(i for i, part in enumerate(parts) if any(sign in part for sign in "*?["))
    return parts[:wild]
