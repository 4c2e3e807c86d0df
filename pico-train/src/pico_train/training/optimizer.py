"""AdamW, and which parameters its weight decay reaches. The learning rate at each step is `training.schedule`'s."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn

DecayReach = Literal["all", "matrices", "blocks"]
"""`all` parameters; the `matrices`, which leaves out the norms' scales; or those of the `blocks` alone, which leaves
out the embedding and the head as well."""


def build_optimizer(
    model: nn.Module,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float = 1e-8,
    weight_decay: float = 0.1,
    decay_reach: DecayReach = "matrices",
    fused: bool | None = None,
) -> torch.optim.AdamW:
    """Return AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) over two groups: parameters that decay, and the others.

    Args:
        model: its trainable parameters, each once (tied ones count once), grouped by name and rank.
        lr: learning rate before the schedule sets it.
        betas, eps, weight_decay: as in the paper; decay is decoupled and scaled by the learning rate.
        decay_reach: which parameters decay.
        fused: one kernel for the whole update; None takes it where every parameter's device has it.
    """
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (decayed if _decays(name, parameter, decay_reach) else kept).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    if fused is None:
        fused = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in decayed + kept)
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, betas=betas, eps=eps, fused=fused)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def _decays(name: str, parameter: nn.Parameter, reach: DecayReach) -> bool:
    if reach == "all":
        return True
    if parameter.dim() < 2:
        return False
    return reach == "matrices" or ".layers." in f".{name}"
