"""Which endings say that a file is text, and of which kind."""

from __future__ import annotations

from pathlib import Path

from pico_train.data.prepare.opening import COMPRESSIONS, ending

PLAIN = (".txt", ".text", ".md")
"""One document a file."""
JSON_LINES = (".jsonl", ".ndjson", ".json")
"""One JSON object a line."""
CSV = (".csv", ".tsv")
"""Tables in text, under a line of names."""
BINARY = (".parquet", ".arrow")
"""Tables that are not compressed from without."""
SUFFIXES = (*PLAIN, *JSON_LINES, *CSV, *BINARY)
"""Endings of the files that are taken from a folder; all but those of `BINARY` may have one of `COMPRESSIONS` after."""


def taken_from_folder(path: Path) -> bool:
    """Whether a file is text by its ending, so that it is taken where only its folder is named."""
    kind = ending(path)
    return kind in SUFFIXES or uncompressed(kind) in (*PLAIN, *JSON_LINES, *CSV)


def readable() -> str:
    """The endings that are read, for messages."""
    return f"{' '.join(SUFFIXES)}; all but the last two also with {' '.join(COMPRESSIONS)} after"


def uncompressed(kind: str) -> str:
    """The kind of a file without its compression."""
    for last in COMPRESSIONS:
        if kind.endswith(last):
            return kind.removesuffix(last)
    return kind


def is_saved_dataset(path: Path) -> bool:
    """Whether a folder is what `datasets` makes with `save_to_disk`: one dataset, or several splits."""
    return (path / "dataset_dict.json").is_file() or (
        (path / "dataset_info.json").is_file() and (path / "state.json").is_file()
    )
