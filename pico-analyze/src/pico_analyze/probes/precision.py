"""The type that sums are taken in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def wide(tensor: Tensor) -> Any:
    """float64; float32 on Apple's accelerator, which has no wider one."""
    import torch

    return torch.float32 if tensor.device.type == "mps" else torch.float64
