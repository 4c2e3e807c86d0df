"""AdamW, and which parameters its weight decay reaches. The learning rate of each step is `training.schedule`'s."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn

DecayReach = Literal["matrices", "all", "none"]
"""`matrices` decay, which leaves out the norms' scales; or `all` parameters; or `none`."""


def build_optimizer(
    model: nn.Module,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float = 1e-8,
    weight_decay: float = 0.1,
    decay: DecayReach = "matrices",
    fused: bool | None = None,
) -> torch.optim.AdamW:
    """Return AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) over two groups: parameters that decay, and the others.

    A group without parameters is left out.

    Args:
        model: its trainable parameters, each once (tied ones count once), in the model's order.
        lr: learning rate until `set_learning_rate`.
        betas: decay of the first and of the second moment.
        eps: added to the root of the second moment.
        weight_decay: decoupled, scaled by the learning rate.
        decay: which parameters it reaches.
        fused: one kernel for the whole update; None takes it on devices that have it, which are CPU and CUDA.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in parameters if decay == "all" or (decay == "matrices" and p.dim() >= 2)]
    reached = {id(p) for p in decayed}
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": [p for p in parameters if id(p) not in reached], "weight_decay": 0.0},
    ]
    if fused is None:
        fused = all(p.device.type in ("cpu", "cuda") for p in parameters)
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, betas=betas, eps=eps, fused=fused)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every parameter group this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr
