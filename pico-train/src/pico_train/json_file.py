"""JSON files that this program wrote for itself, read as files from elsewhere are: bounded, and meaning one thing only.

A run's directory and the caches outlive the program, are copied and edited. What is to be done about a file that cannot
be read (it is made again, or a person is told) is the caller's to decide. Documents of the contract have a reader of
their own, `pico_schema.documents`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from pico_schema import strict_json
from pico_schema.files import read_regular

MAX_BYTES = 256 * 2**20
"""Largest file that is read: an index of a hundred thousand shards has some 30 MB."""
M = TypeVar("M", bound=BaseModel)


def read_json(path: Path, *, most: int = MAX_BYTES) -> Any:
    """The value in a file.

    Raises:
        OSError: it is not there, or the disk refused.
        ValueError: it is larger than `most` bytes, not JSON, or JSON that could be understood in two ways.
    """
    content = read_regular(path, most + 1)
    if len(content) > most:
        raise ValueError(f"it has more than {most} bytes")
    return strict_json.parse(content)


def read_model(path: Path, model: type[M], *, most: int = MAX_BYTES) -> M:
    """The value in a file, as a model: each field of the type that it is declared with.

    Raises:
        OSError: it is not there, or the disk refused.
        ValueError: as `read_json`; or the value does not fit the model.
    """
    content = read_json(path, most=most)
    return model.model_validate_json(json.dumps(content), strict=True)  # from JSON: tuples and times are texts there
