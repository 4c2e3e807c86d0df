"""A file of arrays beside the table: safetensors that any program can read, with a checksum over all of it.

The checksum stands in the file's own metadata: the sha256 of the whole file, taken while 64 zeros stood in its place,
as in a file of rows. Beside it stands the digest of what the arrays answer, which the rows made of them carry too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pico_analyze.errors import DataError, StorageError
from pico_schema.files import read_regular, replace_file

_SIGN, _ZEROS = b"sha256 of this file with 64 zeros here: ", b"0" * 64
_DIGEST = "pico_analyze.digest"


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], digest: str) -> None:
    """Leave arrays: all of them, or nothing.

    Args:
        path: Where.
        arrays: By name; float32, float64, int64, int32, uint8.
        digest: Of the question that they answer, and of its inputs.

    Raises:
        StorageError: the disk refused.
    """
    from safetensors.numpy import save

    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    content = save(whole, {"pico_analyze.checksum": (_SIGN + _ZEROS).decode(), _DIGEST: digest})
    at = content.index(_SIGN) + len(_SIGN)
    content = b"".join((content[:at], _checksum(content, at), content[at + len(_ZEROS) :]))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content, durable=False)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror or error}): check the disk") from None


def read_arrays(path: Path, digest: str | None = None) -> dict[str, np.ndarray]:
    """The arrays of a file.

    Args:
        path: Where.
        digest: The question and inputs that they have to answer; None for whatever is there.

    Raises:
        DataError: there is no such file, it is not as it was written, or it answers something else.
        StorageError: the disk refused.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        content = read_regular(path)
    except FileNotFoundError:
        raise DataError(f"{path}: it is gone: the same command makes it again") from None
    except OSError as error:
        raise StorageError(f"{path}: reading failed ({error.strerror or error}): check the disk") from None
    at = content.find(_SIGN) + len(_SIGN)
    if at < len(_SIGN) or content[at : at + len(_ZEROS)] != _checksum(content, at):
        raise DataError(f"{path}: it is not as it was written (its checksum is that of other content): take it away")
    if digest is not None and f'"{_DIGEST}":"{digest}"'.encode() not in content[: 1 << 16]:
        raise DataError(f"{path}: it answers another question: take it away")
    try:
        found: dict[str, np.ndarray] = load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise DataError(f"{path}: not a file of arrays ({str(error)[:120]}): take it away") from None
    return found


def _checksum(content: bytes, at: int) -> bytes:
    digest = hashlib.sha256(memoryview(content)[:at])
    digest.update(_ZEROS)
    digest.update(memoryview(content)[at + len(_ZEROS) :])
    return digest.hexdigest().encode()
