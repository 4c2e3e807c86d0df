"""Whether the files and folders that a configuration names are there, asked before anything slow is begun."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path

from pico_schema import layout
from pico_train.config.schema import RunConfig
from pico_train.errors import ConfigError

_HUB = "hf://"
_ON_DISK = ("pairs", "choices", "text", "pico1", "babylm", "tokens")
"""Kinds of tasks of evaluation whose place is a file or folder."""


def check_places(config: RunConfig) -> None:
    """Raise where a place that is named is not there, or the run's directory cannot be made.

    Of a run that is there already only the directory is looked at: what it still needs, resuming finds out.

    Raises:
        ConfigError: one sentence for the first such place.
    """
    out = Path(config.out).expanduser()
    begun = (out / config.name / layout.RUN_MANIFEST).is_file()
    for setting, place in () if begun else _named(config):
        if not place.startswith(_HUB) and not _is_there(place):
            raise ConfigError(f"{setting}: {place} is not there: name files or folders that are")
    nearest = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise ConfigError(f"out={config.out}: {nearest} is a file, not a directory: name another")
    if not os.access(nearest, os.W_OK):
        raise ConfigError(f"out={config.out}: {nearest} cannot be written to: name a directory of your own")


def _named(config: RunConfig) -> Iterator[tuple[str, str]]:
    """Settings and the places on this disk that they name."""
    if config.data.source in ("text", "tokens"):
        yield from (("data.paths", str(path)) for path in config.data.paths or ())
        yield from (("data.val_paths", str(path)) for path in config.data.val_paths or ())
    for task in config.evaluation.tasks:
        name, equals, rest = task.partition("=")
        kind, _, place = (rest if equals and ":" not in name else task).partition(":")
        if kind in _ON_DISK and place:
            yield "evaluation.tasks", place


def _is_there(place: str) -> bool:
    path = Path(place).expanduser()
    return path.exists() or any(glob.iglob(str(path), recursive=True))  # noqa: PTH207 - Path.glob takes no absolute one
