"""A loaded model's loss around its weights: the Hessian by products with vectors (hessian-eigenthings), and chains of
stochastic gradient Langevin dynamics (devinterp). The weights are as they were when a function returns.

Letters: N rows, T positions read, C chains, D draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pico_analyze.models.extra import extra

with extra("curvature"):
    from devinterp.optim import SGMCMC
    from hessian_eigenthings import HessianOperator, hutchinson, lanczos


@dataclass(frozen=True)
class Hessian:
    """What was found of a Hessian."""

    top: float
    """Largest eigenvalue."""
    residual: float
    """‖H v - λ v‖ of it."""
    trace: float
    trace_error: float
    """Standard error over random vectors."""


@dataclass(frozen=True)
class Chains:
    """What was seen along chains."""

    losses_CD: np.ndarray
    """Mean loss of the rows drawn at each draw, burn-in left out, nats."""
    loss_before: float
    """Mean loss of all rows at the weights themselves."""


def mean_loss(model: nn.Module, ids_BT: Tensor) -> Tensor:
    """Mean token loss of rows, (B, T + 1) ids, nats."""
    logits_BTV = model(input_ids=ids_BT[:, :-1], use_cache=False).logits
    return F.cross_entropy(logits_BTV.float().flatten(0, 1), ids_BT[:, 1:].flatten())


def batches_of(ids_NT: np.ndarray, batch_size: int, device: str) -> list[Tensor]:
    """Rows in batches on a device."""
    ids = torch.as_tensor(np.asarray(ids_NT, np.int64), device=device)
    return [ids[first : first + batch_size] for first in range(0, len(ids), batch_size)]


def read_hessian(model: nn.Module, batches: Sequence[Tensor], *, iterations: int, vectors: int, seed: int) -> Hessian:
    """The Hessian of the mean loss over all rows, with respect to all weights that the loss depends on.

    Args:
        model: In evaluation mode, with weights that take gradients and attention that is computed step by step.
        batches: All rows, in batches.
        iterations: Steps of Lanczos' method, with full reorthogonalisation.
        vectors: Random vectors of ±1 for the trace (Hutchinson 1989).
        seed: Of the first vector of Lanczos' method, and of those for the trace.
    """
    rows = sum(len(batch) for batch in batches)
    used = _used(model, batches[0][:1])

    def loss(module: nn.Module, batch: Tensor) -> Tensor:
        # The operator takes the mean over batches, which may differ in size.
        return mean_loss(module, batch) * (len(batch) * len(batches) / rows)

    operator = HessianOperator(model, list(batches), loss, param_filter=lambda name, _: name in used)
    steps = min(iterations, operator.size)
    found = lanczos(operator, k=1, max_iter=steps, which="LA", reorthogonalize=True, seed=seed)
    traced = hutchinson(operator, num_samples=vectors, seed=seed)
    return Hessian(float(found.eigenvalues[0]), float(found.residuals[0]), traced.estimate, traced.stderr)


def _used(model: nn.Module, batch: Tensor) -> set[str]:
    """Names of the weights that the loss depends on."""
    named = dict(model.named_parameters())
    gradients = torch.autograd.grad(mean_loss(model, batch), list(named.values()), allow_unused=True)
    return {name for name, gradient in zip(named, gradients, strict=True) if gradient is not None}


def read_chains(
    model: nn.Module, batches: Sequence[Tensor], *, n_beta: float, how: dict[str, Any], seed: int
) -> Chains:
    """Losses along chains that begin at a model's weights.

    Args:
        model: In evaluation mode, with weights that take gradients.
        batches: All rows, in batches; a step of a chain takes one of them.
        n_beta: Inverse temperature.
        how: Parameters of the probe `llc`: chains, draws, burn_in, lr, localization.
        seed: Of all that is drawn.
    """
    rows = sum(len(batch) for batch in batches)
    with torch.no_grad():
        before = sum(float(mean_loss(model, batch)) * len(batch) for batch in batches) / rows
    losses = langevin(
        list(model.parameters()),
        lambda batch: mean_loss(model, batch),
        batches,
        n_beta=n_beta,
        seed=seed,
        **how,
    )
    return Chains(losses, before)


def langevin(
    weights: Sequence[nn.Parameter],
    loss: Callable[[Tensor], Tensor],
    batches: Sequence[Tensor],
    *,
    n_beta: float,
    seed: int,
    chains: int,
    draws: int,
    burn_in: int,
    lr: float,
    localization: float,
) -> np.ndarray:
    """Losses along chains of stochastic gradient Langevin dynamics around weights (Lau et al. 2023, section 4).

    A step is w ← w - lr/2 (n β ∇L(w) + γ (w - w₀)) + N(0, lr), L on one of the batches, drawn at random.

    Args:
        weights: w₀, which stand as they were afterwards.
        loss: Mean loss of a batch.
        batches: What is drawn from.
        n_beta: n β.
        seed: Chain c draws with seed + c.
        chains: C.
        draws: D; a chain that meets what is not finite ends, and has NaN from there.
        burn_in: Steps before them.
        lr: Step size.
        localization: γ.

    Returns:
        (C, D), float64.
    """
    losses = np.full((chains, draws), math.nan)
    with _restored(weights) as start:
        for chain in range(chains):
            with torch.no_grad():
                for weight, first in zip(weights, start, strict=True):
                    weight.copy_(first)
            torch.manual_seed(seed + chain)
            order = np.random.default_rng([seed, chain])
            sampler = SGMCMC.sgld(weights, lr=lr, nbeta=n_beta, localization=localization)
            for step in range(-burn_in, draws):
                value = loss(batches[int(order.integers(len(batches)))])
                if not torch.isfinite(value):
                    break
                if step >= 0:
                    losses[chain, step] = float(value.detach())
                value.backward()  # type: ignore[no-untyped-call]
                sampler.step()
                sampler.zero_grad(set_to_none=True)
    return losses


@contextmanager
def _restored(weights: Sequence[nn.Parameter]) -> Iterator[list[Tensor]]:
    """Weights, their gradients and torch's random state are afterwards as they were; gives what the weights are."""
    kept = [weight.detach().clone() for weight in weights]
    devices = [weights[0].device] if weights[0].is_cuda else []
    try:
        with torch.random.fork_rng(devices):
            yield kept
    finally:
        with torch.no_grad():
            for weight, before in zip(weights, kept, strict=True):
                weight.copy_(before)
                weight.grad = None
