"""Arrays as text: their entries, little-endian, the last axis fastest, in base64."""

from __future__ import annotations

import base64

import numpy as np

_TYPES = {"float32": "<f4", "uint8": "|u1", "int32": "<i4"}


def packed(array: np.ndarray) -> str:
    """An array of float32, int32 or uint8 as text."""
    return base64.b64encode(np.ascontiguousarray(array, _TYPES[array.dtype.name]).tobytes()).decode("ascii")
