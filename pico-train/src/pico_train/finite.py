"""Whether every number is finite: of what is to be saved, before anything is written, and of what lies in a file.

One rule for both: the bits that a NaN or an infinity has in each type. Tensors of the usual types are passed over once,
for the smallest and the largest number at the same time, which a NaN anywhere turns into NaN: a small part of what
hashing the same bytes takes. Files are read in pieces, without torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pico_schema.files import open_regular
from pico_schema.tensor_header import read_file_header

if TYPE_CHECKING:
    from torch import Tensor


class _Bits(NamedTuple):
    """A number is not finite where its bits under `mask` are `value`."""

    kind: type[np.unsignedinteger]
    mask: int
    value: int


def _exponent(kind: type[np.unsignedinteger], mask: int) -> _Bits:
    """All bits of the exponent set: infinite or not a number."""
    return _Bits(kind, mask, mask)


_BITS = {
    "F64": _exponent(np.uint64, 0x7FF0_0000_0000_0000),
    "F32": _exponent(np.uint32, 0x7F80_0000),
    "C64": _exponent(np.uint32, 0x7F80_0000),  # two of F32
    "BF16": _exponent(np.uint16, 0x7F80),
    "F16": _exponent(np.uint16, 0x7C00),
    "F8_E5M2": _exponent(np.uint8, 0x7C),
    "F8_E4M3": _Bits(np.uint8, 0x7F, 0x7F),  # no infinities; one NaN of each sign
    "F8_E8M0": _Bits(np.uint8, 0xFF, 0xFF),  # an exponent alone
    "F8_E4M3FNUZ": _Bits(np.uint8, 0xFF, 0x80),  # what would be a negative zero
    "F8_E5M2FNUZ": _Bits(np.uint8, 0xFF, 0x80),
}
"""By the names of safetensors. Types that are not here (integers, truth values, F4) have finite numbers only."""
_NARROW = {
    "torch.float8_e5m2": "F8_E5M2",
    "torch.float8_e4m3fn": "F8_E4M3",
    "torch.float8_e8m0fnu": "F8_E8M0",
    "torch.float8_e4m3fnuz": "F8_E4M3FNUZ",
    "torch.float8_e5m2fnuz": "F8_E5M2FNUZ",
}
"""Types of torch that it cannot compare."""
_PIECE = 1 << 22


def first_nonfinite(tree: Any, name: str = "") -> str | None:
    """Name of the first tensor that holds a NaN or an infinity, or None.

    Args:
        tree: Tensors (of sharded ones this process's part), in nested dictionaries and lists; all else is passed over.
        name: What the tree is called; keys are added behind it, with dots.
    """
    return next((path for path, tensor in _tensors(tree, name) if not is_finite(tensor)), None)


def is_finite(tensor: Tensor) -> bool:
    """Whether each number of a tensor is finite."""
    import torch

    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.detach().resolve_conj())
    if not tensor.is_floating_point() or not tensor.numel() or str(tensor.dtype).startswith("torch.float4"):
        return True
    if (narrow := _NARROW.get(str(tensor.dtype))) is not None:
        _, mask, value = _BITS[narrow]
        return not bool(((tensor.detach().view(torch.uint8) & mask) == value).any())
    least, most = torch.aminmax(tensor.detach())
    return math.isfinite(least.item()) and math.isfinite(most.item())


def first_nonfinite_in(path: Path) -> str | None:
    """Name of the first tensor of a safetensors file that holds a NaN or an infinity, or None.

    Raises:
        TensorHeaderError: not a safetensors file, or a damaged one.
    """
    header = read_file_header(path)
    with open_regular(path) as raw, BufferedReader(raw) as file:
        for name, entry in header.tensors.items():
            if (rule := _BITS.get(entry.dtype)) is None:
                continue
            kind, mask, value = rule
            file.seek(entry.offset)
            for at in range(0, entry.nbytes, _PIECE):
                bits = np.frombuffer(file.read(min(_PIECE, entry.nbytes - at)), dtype=kind)
                if bool(((bits & kind(mask)) == value).any()):
                    return name
    return None


def _tensors(item: Any, name: str) -> Iterator[tuple[str, Any]]:
    from torch import Tensor
    from torch.distributed.tensor import DTensor

    if isinstance(item, DTensor):
        yield name, item.to_local()
    elif isinstance(item, Tensor):
        yield name, item
    elif isinstance(item, Mapping):
        for key, value in item.items():
            yield from _tensors(value, f"{name}.{key}" if name else str(key))
    elif isinstance(item, list | tuple):
        for index, value in enumerate(item):
            yield from _tensors(value, f"{name}.{index}" if name else str(index))
