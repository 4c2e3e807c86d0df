"""Whether every weight of a safetensors file is a number: read in pieces, from the bits, without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pico_schema.tensor_header import read_file_header

# The bits of the exponent: all set means infinite or not a number.
_EXPONENTS: dict[str, tuple[type[np.unsignedinteger], int]] = {
    "F64": (np.uint64, 0x7FF0_0000_0000_0000),
    "F32": (np.uint32, 0x7F80_0000),
    "BF16": (np.uint16, 0x7F80),
    "F16": (np.uint16, 0x7C00),
}
_PIECE = 1 << 22


def first_nonfinite(path: Path) -> str | None:
    """Name of the first tensor that holds a NaN or an infinity, or None.

    Raises:
        TensorHeaderError: not a safetensors file, or a damaged one.
    """
    header = read_file_header(path)
    with path.open("rb") as file:
        for name, entry in header.tensors.items():
            if entry.dtype not in _EXPONENTS:
                continue
            kind, exponent = _EXPONENTS[entry.dtype]
            file.seek(entry.offset)
            for at in range(0, entry.nbytes, _PIECE):
                bits = np.frombuffer(file.read(min(_PIECE, entry.nbytes - at)), dtype=kind)
                if bool(((bits & kind(exponent)) == exponent).any()):
                    return name
    return None
