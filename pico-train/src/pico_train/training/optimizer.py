"""Which rule updates which parameter: AdamW, Muon, SGD or Adafactor, over groups with settings of their own.

The rules are torch's. Decided here is what weight decay reaches, what Muon leaves to AdamW, and by how much a group's
learning rate differs from the run's (`lr_factor`, only where it does). The learning rate of each step is `schedules`'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from pico_train.errors import ConfigError
from pico_train.model.width import Update, Width

if TYPE_CHECKING:
    from pico_train.config import OptimizerConfig

DecayReach = Literal["matrices", "all", "none"]
"""`matrices` decay, which leaves out the norms' scales; or `all` parameters; or `none`."""


def optimizer_of(model: nn.Module, settings: OptimizerConfig, width: Width | None = None) -> torch.optim.Optimizer:
    """Return what a configuration asks for, over the model's trainable parameters.

    Args:
        model: a `Decoder`, on its devices, sharded if it is to be.
        settings: `training.optimizer`.
        width: how wide the model is over its base, where learning rates follow it (μP).

    Raises:
        ConfigError: the installed torch has no such optimizer.
    """
    betas = (settings.beta1, settings.beta2)
    reach = {"weight_decay": settings.weight_decay, "decay": settings.decay, "width": width}
    if settings.name == "adamw":
        return build_optimizer(model, lr=settings.lr, betas=betas, eps=settings.eps, **reach)  # type: ignore[arg-type]
    if settings.name == "sgd":
        groups = parameter_groups(model, update="gradient", **reach)  # type: ignore[arg-type]
        return torch.optim.SGD(
            groups, lr=settings.lr, momentum=settings.momentum or 0.0, nesterov=bool(settings.nesterov)
        )
    if settings.name == "adafactor":
        groups = parameter_groups(model, **reach)  # type: ignore[arg-type]
        return torch.optim.Adafactor(groups, lr=settings.lr, beta2_decay=settings.beta2_decay or -0.8)
    if not hasattr(torch.optim, "Muon"):
        raise ConfigError(
            f"training.optimizer.name=muon: torch {torch.__version__} has no Muon; install torch 2.9 or newer"
        )
    from pico_train.training.muon import MuonWithAdamW

    scaled = settings.adjust_lr == "match_rms_adamw"
    matrices = parameter_groups(model, update="rms" if scaled else "spectral", among="matrices", **reach)  # type: ignore[arg-type]
    rest = parameter_groups(model, among="rest", eps=settings.eps, **reach)  # type: ignore[arg-type]
    if settings.rest_lr is not None:
        for group in rest:
            group["lr_factor"] = group.get("lr_factor", 1.0) * settings.rest_lr / settings.lr
    return MuonWithAdamW(
        matrices,
        rest,
        muon={
            "lr": settings.lr,
            "momentum": settings.momentum,
            "nesterov": settings.nesterov,
            "adjust_lr_fn": settings.adjust_lr,
        },
        adamw={"lr": settings.lr, "betas": betas, "eps": settings.eps, "fused": _can_be_fused(model)},
    )


def build_optimizer(
    model: nn.Module,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float = 1e-8,
    weight_decay: float = 0.1,
    decay: DecayReach = "matrices",
    fused: bool | None = None,
    width: Width | None = None,
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
        width: how wide the model is over its base, where learning rates follow it (μP); there are more groups then.
    """
    groups = parameter_groups(model, weight_decay=weight_decay, decay=decay, width=width, eps=eps)
    if fused is None:
        fused = _can_be_fused(model)
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, fused=fused)


def parameter_groups(
    model: nn.Module,
    *,
    weight_decay: float,
    decay: DecayReach,
    width: Width | None,
    update: Update = "adam",
    among: Literal["all", "matrices", "rest"] = "all",
    eps: float | None = None,
) -> list[dict[str, Any]]:
    """The trainable parameters in groups of the same settings: those that decay first, each group in the model's order.

    Under μP, what weight decay takes off a parameter at a step, learning rate × weight decay, is the same in every
    group: it does not fall with the width (as in Microsoft's package mup).

    Args:
        model: its trainable parameters, each once.
        weight_decay: of those that it reaches.
        decay: which these are.
        width: how wide the model is over its base, or None.
        update: what a step's size follows.
        among: all parameters; the matrices of the blocks; or all others.
        eps: of Adam, where it is to follow the width.
    """
    groups: dict[tuple[float, ...], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        in_block = ".layers." in name and parameter.dim() == 2
        if not parameter.requires_grad or among == ("rest" if in_block else "matrices"):
            continue
        decays = decay == "all" or (decay == "matrices" and parameter.dim() >= 2)
        factor = width.lr_factor(name, update) if width is not None else 1.0
        own: dict[str, Any] = {"weight_decay": weight_decay / factor if decays else 0.0}
        if factor != 1.0:
            own["lr_factor"] = factor
        if width is not None and eps is not None and width.eps_factor(name) != 1.0:
            own["eps"] = eps * width.eps_factor(name)
        key = (not decays, factor, own.get("eps", 0.0))
        groups.setdefault(key, {"params": [], **own})["params"].append(parameter)
    return [groups[key] for key in sorted(groups, key=lambda key: key[0])]


def _can_be_fused(model: nn.Module) -> bool:
    return all(p.device.type in ("cpu", "cuda") for p in model.parameters() if p.requires_grad)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every parameter group this learning rate, or what its factor makes of it."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_factor", 1.0)
