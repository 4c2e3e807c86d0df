"""What `prepare` is given: files, folders, globs and Hub datasets, in a fixed order, and their identity."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pico_train.data.prepare.documents import Document
from pico_train.data.prepare.reading import HUB, SUFFIXES, HubText, TextLayout, ending, read_file, read_hub
from pico_train.data.prepare.recipe import Inputs
from pico_train.errors import ConfigError, DataError


@dataclass(frozen=True)
class TextFile:
    """One file that documents are read from, or a directory that `datasets` saved."""

    path: Path
    """Where it is."""
    label: str
    """Its name in the corpus: relative to what was named, with forward slashes."""


def find(patterns: Sequence[str]) -> list[TextFile | HubText]:
    """What the patterns name, in the order given, and within each sorted by name; nothing twice.

    Raises:
        ConfigError: a pattern names nothing.
    """
    found: dict[str, TextFile | HubText] = {}
    for pattern in patterns:
        if pattern.startswith(HUB):
            found.setdefault(pattern, HubText.parse(pattern).pinned())
            continue
        files = list(_local(pattern))
        if not files:
            raise ConfigError(
                f"{pattern}: no text there: name files, globs, or folders with files ending in {', '.join(SUFFIXES)}"
            )
        for file in files:
            found.setdefault(str(file.path.absolute()), file)
    return list(found.values())


def _local(pattern: str) -> Iterator[TextFile]:
    path = Path(pattern).expanduser()
    if path.is_file():
        yield TextFile(path, path.name)
    elif path.is_dir():
        yield from _folder(path)
    elif any(sign in pattern for sign in "*?["):
        base = Path(*_before_wildcards(path))
        for name in sorted(glob.glob(str(path), recursive=True)):  # noqa: PTH207 - Path.glob takes no absolute pattern
            if Path(name).is_file():
                yield TextFile(Path(name), Path(name).relative_to(base).as_posix())
    else:
        raise ConfigError(f"{pattern}: no such file or folder")


def _before_wildcards(path: Path) -> list[str]:
    parts = list(path.parts)
    wild = next(i for i, part in enumerate(parts) if any(sign in part for sign in "*?["))
    return parts[:wild]


def _folder(root: Path) -> Iterator[TextFile]:
    if (root / "dataset_info.json").is_file() and (root / "state.json").is_file():
        yield TextFile(root, root.name)
        return
    for directory, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and ending(Path(name)) in SUFFIXES:
                path = Path(directory, name)
                yield TextFile(path, path.relative_to(root).as_posix())


def documents(found: Iterable[TextFile | HubText], layout: TextLayout) -> Iterator[Document]:
    """The documents of all that was found, in order.

    Raises:
        DataError: a file is not what its ending says.
    """
    for item in found:
        if isinstance(item, HubText):
            yield from read_hub(item, layout)
        else:
            yield from read_file(item.path, item.label, layout)


def text_inputs(
    patterns: Sequence[str], val_patterns: Sequence[str], layout: TextLayout, *, val_layout: TextLayout | None = None
) -> Inputs:
    """The inputs that these patterns name.

    Raises:
        ConfigError: a pattern names nothing.
    """
    train, val = find(patterns), find(val_patterns)
    sizes = [size_of(item) for item in train]
    state = hashlib.sha256(f"({_stated(layout)}, {_stated(val_layout)})".encode())
    for item in (*train, None, *val):
        state.update(repr(_signature(item)).encode() + b"\n")
    return Inputs(
        state.hexdigest(),
        train=lambda: documents(train, layout),
        val=(lambda: documents(val, val_layout or layout)) if val else None,
        bytes=None if None in sizes else sum(size for size in sizes if size),
    )


def _stated(layout: TextLayout | None) -> str:
    """How a layout enters the inputs' identity. The words are those of the first release: its corpora stay theirs."""
    return repr(layout).replace("TextLayout(", "Format(", 1)


def size_of(item: TextFile | HubText) -> int | None:
    """Bytes of text in a file, guessed at four times its size where it is compressed; None for a Hub dataset."""
    if isinstance(item, HubText):
        return None
    if item.path.is_dir():
        return sum(path.stat().st_size for path in item.path.rglob("*") if path.is_file())
    compressed = item.path.name.lower().endswith((".gz", ".parquet"))
    return item.path.stat().st_size * (4 if compressed else 1)


def _signature(item: TextFile | HubText | None) -> object:
    """What tells whether a file changed since a preparation was interrupted, without reading it."""
    if isinstance(item, HubText):
        return item
    if item is None:
        return None
    try:
        stat = item.path.stat()
    except OSError as error:
        raise DataError(f"{item.path}: cannot be read ({error.strerror})") from None
    return item.label, stat.st_size, stat.st_mtime_ns
