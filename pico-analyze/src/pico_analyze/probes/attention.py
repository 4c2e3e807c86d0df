"""Where heads look: means over an attention pattern.

Letters: B rows, H heads, T positions; A(t, j) is the attention of position t on position j, rows of A sum to 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pico_analyze.probes.precision import wide

if TYPE_CHECKING:
    from torch import Tensor

METRICS = ("attention_entropy", "sink_mass", "previous_token", "attention_distance")


def entropy(weights: Tensor) -> Tensor:
    """Entropy of distributions along the last axis, in nats; 0 ln 0 is 0. Uniform ones over T have ln T."""
    import torch

    return -torch.xlogy(weights, weights).sum(-1)


def pattern_means(weights_BHTT: Tensor) -> dict[str, Tensor]:
    """The metrics of the probe `attention` (see its page), for each row and head.

    Args:
        weights_BHTT: Attention of one layer, T at least 2.

    Returns:
        (B, H) by metric: means over positions 1 to T - 1; position 0 can look at itself alone.
    """
    import torch

    dtype = wide(weights_BHTT)
    asking = weights_BHTT[..., 1:, :]
    positions = torch.arange(weights_BHTT.shape[-1], device=weights_BHTT.device, dtype=weights_BHTT.dtype)
    back = positions[1:, None] - positions
    return {
        "attention_entropy": entropy(asking).mean(-1, dtype=dtype),
        "sink_mass": asking[..., 0].mean(-1, dtype=dtype),
        "previous_token": asking.diagonal(dim1=-2, dim2=-1).mean(-1, dtype=dtype),
        "attention_distance": (asking * back).sum(-1).mean(-1, dtype=dtype),
    }
