"""Whether every weight of a safetensors file is a number: read in pieces, from the bits, without torch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

# The bits of the exponent: all set means infinite or not a number.
_EXPONENTS: dict[str, tuple[type[np.unsignedinteger], int]] = {
    "F64": (np.uint64, 0x7FF0_0000_0000_0000),
    "F32": (np.uint32, 0x7F80_0000),
    "BF16": (np.uint16, 0x7F80),
    "F16": (np.uint16, 0x7C00),
}
_PIECE = 1 << 22


def first_nonfinite(path: Path) -> str | None:
    """Name of the first tensor that holds a NaN or an infinity, or None."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        for name, entry in header.items():
            if name == "__metadata__" or entry["dtype"] not in _EXPONENTS:
                continue
            kind, exponent = _EXPONENTS[entry["dtype"]]
            begin, end = entry["data_offsets"]
            file.seek(8 + length + begin)
            for at in range(begin, end, _PIECE):
                bits = np.frombuffer(file.read(min(_PIECE, end - at)), dtype=kind)
                if bool(((bits & kind(exponent)) == exponent).any()):
                    return str(name)
    return None
