"""Whether every number of what is to be saved is finite: looked at before anything is written.

One pass over the tensors, for the smallest and the largest number at once, which a NaN anywhere turns into NaN: a small
part of what hashing the same bytes takes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any


def first_nonfinite(tree: Any, name: str = "") -> str | None:
    """Name of the first tensor that holds a NaN or an infinity, or None.

    Args:
        tree: Tensors (of sharded ones this process's part), in nested dictionaries and lists; all else is passed over.
        name: What the tree is called; keys are added behind it, with dots.
    """
    import torch

    for path, tensor in _tensors(tree, name):
        if tensor.is_floating_point() and tensor.numel():
            least, most = torch.aminmax(tensor.detach())
            if not (math.isfinite(least.item()) and math.isfinite(most.item())):
                return path
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
