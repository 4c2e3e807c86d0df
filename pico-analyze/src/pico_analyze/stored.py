"""The type in which numbers were stored, beside the type in which they are held: bfloat16 is held as float32.

A reader of files marks what it widened, and what had been widened before it was written: what a model computed in
bfloat16 is often kept as float32. The mark stays with views (slices, transposes, reshaped arrays) until a matrix takes
it over. An array without a mark was stored as what it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Precision(NamedTuple):
    """How exactly a type holds numbers."""

    name: str
    unit: float
    """Unit roundoff: the largest relative error that storing a number makes."""
    smallest: float
    """The largest absolute error where numbers are so small that they lose digits: half the distance of neighbours (of
    float64 the distance, as half of it is no number)."""


PRECISIONS: dict[str, Precision] = {
    precision.name: precision
    for precision in (
        Precision("bfloat16", 2.0**-8, 2.0**-134),
        Precision("float16", 2.0**-11, 2.0**-25),
        Precision("float32", 2.0**-24, 2.0**-150),
        Precision("float64", 2.0**-53, 2.0**-1074),
    )
}
"""The types, coarsest first."""
_ENOUGH = 256
"""So many numbers of a type are not all numbers of a coarser one by chance."""
_FIRST = 4096
"""So many are looked at before all are."""


class StoredArray(np.ndarray):
    """An array whose numbers were stored in a coarser type than it has; views of it were too."""

    stored: str | None

    def __array_finalize__(self, origin: object) -> None:
        self.stored = getattr(origin, "stored", None)


def stored_type(array: np.ndarray) -> str:
    """The type an array was stored in, one of `PRECISIONS`. Integers were exact."""
    name = getattr(array, "stored", None) or array.dtype.name
    return name if name in PRECISIONS else "float64"


def marked(array: np.ndarray, stored: str) -> np.ndarray:
    """The same numbers, with the type they were stored in, where the array's own does not tell it."""
    if stored == array.dtype.name:
        return np.asarray(array)
    view = np.asarray(array).view(StoredArray)
    view.stored = stored
    return view


def narrowest(array: np.ndarray) -> str:
    """The coarsest type that holds each of these float32 or float64 numbers exactly: what they were rounded to last.

    Of fewer than 256 numbers, which may be round ones, it is their own.
    """
    own = array.dtype.name
    if array.size < _ENOUGH:
        return own
    flat = array.reshape(-1)
    coarser = list(PRECISIONS)[: list(PRECISIONS).index(own)]
    return next((name for name in coarser if _holds(name, flat[:_FIRST]) and _holds(name, flat)), own)


def _holds(name: str, values: np.ndarray) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):
        if name != "bfloat16":
            return bool((values.astype(name) == values).all())
        if values.dtype != np.float32:
            return _holds("float32", values) and _holds(name, values.astype(np.float32))
        return not (np.ascontiguousarray(values).view(np.uint32) & 0xFFFF).any()


def coarsest(types: Sequence[str]) -> str:
    """The type of the largest rounding among these; at least one."""
    return max(types, key=lambda name: PRECISIONS[name].unit)


def side_by_side(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays of as many rows next to each other, with the coarsest of the types they were stored in."""
    return marked(np.concatenate(arrays, axis=1), coarsest([stored_type(array) for array in arrays]))


def in_rows(array: np.ndarray) -> np.ndarray:
    """The same with its rows one after the other in memory, and its mark."""
    return np.require(array, requirements="C")
