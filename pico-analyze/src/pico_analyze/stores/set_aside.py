"""Steps that a run has set aside: done, and done again from an earlier step, so that they belong to another trajectory.

pico-train keeps them in `checkpoints/set_aside/<number>/`, each folder with a `note.json` that says why. They are never
measured as steps of the run; `list` names them. A note is read as any file from elsewhere: bounded, strictly, and where
it cannot be read its steps are named all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pico_analyze.errors import DataError, StorageError
from pico_analyze.stores.checked_file import read_small
from pico_schema import RevisionIndex, layout, strict_json

MAX_NOTE = 16 * 2**20
"""Largest note that is read, in bytes: a line for each of a hundred thousand steps."""
MAX_FOLDERS = 10_000
"""Most folders that are looked at."""
_MOST_SHOWN = 300


@dataclass(frozen=True)
class SetAside:
    """What a run has set aside at one time and not taken back."""

    steps: tuple[int, ...]
    """Its steps, ascending; none where the note of a folder without checkpoints cannot be read."""
    reason: str
    """Why, in one clause; or what is wrong with the note."""


class _Note(BaseModel):
    """What of a note is shown."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    reason: Annotated[str, Field(min_length=1)]


def set_aside(run: Path) -> tuple[SetAside, ...]:
    """What a run has set aside, in the order in which it did; checkpoints that it took back are not among it."""
    root = run / layout.CHECKPOINTS / layout.SET_ASIDE
    found = []
    for folder in _folders(root):
        steps = _steps(folder / layout.CHECKPOINTS)
        try:
            reason = _reason(folder / layout.SET_ASIDE_NOTE)
        except (DataError, StorageError) as error:
            found.append(SetAside(steps, f"why cannot be read: {printable(str(error))}"))
            continue
        if steps and reason is not None:
            found.append(SetAside(steps, reason))
    return tuple(found)


def published_aside(index: RevisionIndex) -> tuple[SetAside, ...]:
    """What a run's index on the Hub says it has set aside: a checkpoint each, those of one reason together."""
    by_reason: dict[str, list[int]] = {}
    for item in index.set_aside:
        by_reason.setdefault(printable(item.reason), []).append(item.step)
    return tuple(SetAside(tuple(steps), reason) for reason, steps in by_reason.items())


def _folders(root: Path) -> list[Path]:
    """The numbered folders; links are not followed."""
    if root.is_symlink() or root.parent.is_symlink() or not root.is_dir():
        return []
    try:
        entries = [entry for entry in root.iterdir() if _is_number(entry.name) and not entry.is_symlink()]
    except OSError:
        return []
    return sorted((entry for entry in entries if entry.is_dir()), key=lambda entry: int(entry.name))[:MAX_FOLDERS]


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal() and len(name) <= 9


def _steps(place: Path) -> tuple[int, ...]:
    """Steps of the checkpoints that are still there."""
    if place.is_symlink() or not place.is_dir():
        return ()
    try:
        entries = [entry.name for entry in place.iterdir() if entry.is_dir() and not entry.is_symlink()]
    except OSError:
        return ()
    return tuple(sorted(step for step in map(layout.parse_step_dir, entries) if step is not None))


def _reason(path: Path) -> str | None:
    """The note's reason; None where there is no note, since nothing had been moved before it was there.

    Raises:
        DataError: the note is a link, too large, or not one.
        StorageError: the disk refused.
    """
    if path.is_symlink():
        raise DataError(f"{path}: a symbolic link: it is not followed")
    if not path.exists():
        return None
    try:
        note = _Note.model_validate(strict_json.parse(read_small(path, MAX_NOTE)))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise DataError(f"{path}: not a note of what was set aside ({place}: {first['msg']})") from None
    except ValueError as error:
        raise DataError(f"{path}: not a readable JSON object ({str(error).splitlines()[0][:200]})") from None
    return printable(note.reason)


def printable(text: str) -> str:
    """A text of a document on one line, without what moves a terminal's cursor."""
    line = "".join(sign if sign.isprintable() else " " for sign in text)
    return line if len(line) <= _MOST_SHOWN else f"{line[:_MOST_SHOWN]}…"
