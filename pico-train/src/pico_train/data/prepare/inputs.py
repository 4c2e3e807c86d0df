"""What `prepare` is given, as documents in a fixed order, and its identity."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields

from pico_train.counting import counted
from pico_train.data.naming import named
from pico_train.data.prepare.documents import Document
from pico_train.data.prepare.files import MOST_NAMES, Found, TextFile, find
from pico_train.data.prepare.hub_text import HubText
from pico_train.data.prepare.opening import compression, reading
from pico_train.data.prepare.reading import read_file, read_hub
from pico_train.data.prepare.recipe import Inputs
from pico_train.data.prepare.records import BadRecords, TextLayout

_UNSTATED = {"on_bad_record": "refuse"}
"""Fields of a layout that the first release did not have, and the values with which it does what that did."""


def documents(
    found: Iterable[TextFile | HubText], layout: TextLayout, bad: BadRecords | None = None
) -> Iterator[Document]:
    """The documents of all that was found, in order.

    Raises:
        DataError: a file is not what its ending says.
        StorageError: the disk failed, or the Hub cannot be reached.
    """
    bad = bad if bad is not None else BadRecords()
    for item in found:
        if isinstance(item, HubText):
            yield from read_hub(item, layout, bad)
        else:
            yield from read_file(item.path, item.label, layout, bad)


@dataclass(frozen=True)
class TextInputs(Inputs):
    """Documents in files, and what is to be said of them."""

    found: Found = field(kw_only=True)
    """Files to train on."""
    found_val: Found = field(kw_only=True)
    """Files to hold out."""
    bad: BadRecords = field(kw_only=True)
    """Records that were passed over so far."""

    def warnings(self) -> list[str]:
        """What lies where the text is and is not read."""
        return [*self.found.left_aside.sentences(), *self.found_val.left_aside.sentences()]


def text_inputs(
    patterns: Sequence[str], val_patterns: Sequence[str], layout: TextLayout, *, val_layout: TextLayout | None = None
) -> TextInputs:
    """The inputs that these patterns name.

    Raises:
        ConfigError: a pattern names nothing.
        DataError: a file or folder cannot be read.
    """
    found, found_val, bad = find(patterns), find(val_patterns), BadRecords()
    train, val = found.items, found_val.items
    sizes = [size_of(item) for item in train]
    state = hashlib.sha256(f"({_stated(layout)}, {_stated(val_layout)})".encode())
    for item in (*train, None, *val):
        state.update(repr(_signature(item)).encode("utf-8", "surrogateescape") + b"\n")
    return TextInputs(
        state.hexdigest(),
        train=lambda: documents(train, layout, bad),
        val=(lambda: documents(val, val_layout or layout, bad)) if val else None,
        bytes=None if None in sizes else sum(size for size in sizes if size),
        found=found,
        found_val=found_val,
        bad=bad,
    )


def names_of(found: Found) -> str:
    """The files that were found, counted and named: "40 files (a.txt, b.txt and 38 more)"."""
    labels = [item.address if isinstance(item, HubText) else item.label for item in found.items]
    return f"{counted(len(labels), 'file')} ({named(labels, MOST_NAMES)})"


def _stated(layout: TextLayout | None) -> str:
    """How a layout enters the inputs' identity. The words are those of the first release: its corpora stay theirs."""
    if layout is None:
        return "None"
    stated = {each.name: getattr(layout, each.name) for each in fields(layout)}
    kept = [f"{name}={value!r}" for name, value in stated.items() if _UNSTATED.get(name) != value]
    return f"Format({', '.join(kept)})"


def size_of(item: TextFile | HubText) -> int | None:
    """Bytes of text in a file, guessed at four times its size where it is compressed; None for a Hub dataset."""
    if isinstance(item, HubText):
        return None
    with reading(item.path):
        if item.path.is_dir():
            return sum(path.stat().st_size for path in item.path.rglob("*") if path.is_file())
        packed = compression(item.path) is not None or item.path.suffix.lower() == ".parquet"
        return item.path.stat().st_size * (4 if packed else 1)


def _signature(item: TextFile | HubText | None) -> object:
    """What tells whether a file changed since a preparation was interrupted, without reading it."""
    if isinstance(item, HubText) or item is None:
        return item
    with reading(item.path):
        stat = item.path.stat()
    return item.label, stat.st_size, stat.st_mtime_ns
