"""A file of arrays beside the table: safetensors that any program can read, with a checksum over all of it.

The checksum (`checksum.py`) stands in the file's own metadata, as in a file of rows. Beside it stands the digest of
what the arrays answer, which the rows made of them carry too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pico_analyze.errors import DataError, StorageError
from pico_analyze.table.checksum import PLACE, is_sound, sealed
from pico_schema import TensorHeaderError
from pico_schema.files import NotRegularError, read_regular, replace_file
from pico_schema.tensor_header import read_header

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
    content = sealed(save(whole, {"pico_analyze.checksum": PLACE, _DIGEST: digest}), at_end=False)
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
    from safetensors.numpy import load

    try:
        content = read_regular(path)
    except FileNotFoundError:
        raise DataError(f"{path}: it is gone: the same command makes it again") from None
    except NotRegularError:
        raise DataError(f"{path}: a file is needed, and this is a pipe or a device: take it away") from None
    except OSError as error:
        raise StorageError(f"{path}: reading failed ({error.strerror or error}): check the disk") from None
    if not is_sound(content, at_end=False):
        raise DataError(f"{path}: it is not as it was written (its checksum is that of other content): take it away")
    try:
        header = read_header(lambda offset, n: content[offset : offset + n], len(content), where=str(path))
    except TensorHeaderError as error:
        raise DataError(f"{error}: take it away") from None
    if digest is not None and header.metadata.get(_DIGEST) != digest:
        raise DataError(f"{path}: it answers another question: take it away")
    found: dict[str, np.ndarray] = load(content)
    return found
