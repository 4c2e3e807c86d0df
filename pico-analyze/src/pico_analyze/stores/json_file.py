"""JSON files of other programs, read within a bound; what they mean is the stores' business."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pico_analyze.errors import DataError
from pico_analyze.stores.checked_file import CheckedFile, file_size, read_small
from pico_analyze.stores.lfs import WHAT_A_POINTER_IS, is_pointer
from pico_schema import strict_json

MAX_JSON = 64 * 2**20
"""Largest JSON file read, in bytes."""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of at most 64 MiB.

    Raises:
        DataError: missing, too large, or not an object.
        StorageError: the disk refused.
    """
    return json_object(read_small(path, MAX_JSON), where=str(path))


def checked_json(file: CheckedFile) -> dict[str, Any]:
    """The same, from a file that is compared with its digest.

    Raises:
        DataError: missing, too large, not an object, or not what it was.
        StorageError: the disk refused.
    """
    if (size := file_size(file.path)) > MAX_JSON:
        raise DataError(f"{file.path}: it has more than the {MAX_JSON} bytes that make sense: refusing to read it")
    return json_object(file.read(0, size), where=str(file.path))


def json_object(content: bytes | bytearray, *, where: str) -> dict[str, Any]:
    """A JSON object from its bytes.

    Raises:
        DataError: it is none, one that says two things (a key twice), or a pointer of git LFS.
    """
    if is_pointer(content):
        raise DataError(f"{where}: {WHAT_A_POINTER_IS}")
    try:
        raw = strict_json.parse(content, own=False)
        why = f"it is a {type(raw).__name__}"
    except ValueError as error:
        raw, why = None, str(error).splitlines()[0][:200]
    if not isinstance(raw, dict):
        raise DataError(f"{where}: not a readable JSON object ({why}): the file is damaged")
    return raw
