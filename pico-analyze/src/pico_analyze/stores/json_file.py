"""JSON files of other programs, read within a bound; what they mean is the stores' business."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pico_analyze.errors import DataError

_MAX_JSON = 64 * 2**20


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of at most 64 MiB.

    Raises:
        DataError: unreadable, too large, or not an object.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_JSON + 1)
        raw = json.loads(content) if len(content) <= _MAX_JSON else None
    except (OSError, ValueError, RecursionError):
        raw = None
    if not isinstance(raw, dict):
        raise DataError(f"{path}: not a readable JSON object: the file is damaged")
    return raw
