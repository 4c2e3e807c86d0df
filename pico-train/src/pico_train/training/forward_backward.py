"""One forward and backward pass over a batch, in micro-batches; and the validation pass built on it.

A pass leaves in the gradients the gradient of the *mean* token loss over the global batch, under any number of
processes and micro-batches, and waits for the device nowhere.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pico_schema.sites import Site
from pico_train.config import CapturesConfig
from pico_train.training import capture
from pico_train.training.engine import Engine
from pico_train.training.loss import next_token_loss


def accumulate(
    engine: Engine, rows: Tensor, *, micro_batch: int, chunk: int, tap: capture.ActivationTap | None = None
) -> Tensor:
    """Add the gradient of the mean token loss over the global batch to the gradients.

    Args:
        engine: Model and processes.
        rows: (b, seq_len + 1) token ids on the device: this process's share, of equal size on every process.
        micro_batch: Rows per forward pass.
        chunk: Tokens whose logits are held at once.
        tap: Keeps activations on the way.

    Returns:
        This process's *sum* of token losses (nats), a float32 scalar on the device.
    """
    n_local = rows.shape[0]
    n_tokens = n_local * (rows.shape[1] - 1)
    first_row = engine.rank * n_local
    total = torch.zeros((), device=rows.device)
    for start in range(0, n_local, micro_batch):
        part = rows[start : start + micro_batch]
        if tap is not None:
            tap.expect(first_row + start, part.shape[0], rows.device)
        each_BT = torch.empty(part[:, 1:].shape, device=rows.device) if tap is not None and tap.per_row_loss else None
        with engine.accumulating(more=start + micro_batch < n_local):
            loss = next_token_loss(engine.model, part, chunk=chunk, reduction="sum", each_BT=each_BT)
            # Processes average their gradients, so dividing by this process's tokens makes the mean over all of them.
            engine.fabric.backward(loss / n_tokens)
        total += loss.detach()
        if tap is not None and each_BT is not None:
            tap.note_losses(each_BT)
    return total


@contextlib.contextmanager
def eagerly(model: nn.Module) -> Iterator[None]:
    """Inside, compiled modules run as plain Python, so that hooks added after compilation are called.

    Where nothing is compiled the compiler is not touched: importing it takes seconds.
    """
    if any(getattr(module, "_compiled_call_impl", None) is not None for module in model.modules()):
        with torch.compiler.set_stance("force_eager"):
            yield
    else:
        yield


@dataclass(frozen=True)
class Captured:
    """What was captured of one split. Tensors are on rank 0 only."""

    samples: capture.SampleIndex
    """The samples kept."""
    tensors: dict[str, Tensor]
    """Name → tensor, as in a captures file."""
    sites: tuple[Site, ...]
    """Sites captured."""
    loss: float
    """Mean token loss over all rows."""


def validation_capture(
    engine: Engine, rows: Tensor, config: CapturesConfig, *, micro_batch: int, chunk: int
) -> Captured:
    """Activations and gradients on the fixed validation rows. A collective; leaves the gradients empty.

    Args:
        engine: Model and processes.
        rows: (n, seq_len + 1) on the device: this process's share.
        config: Sites, positions, number format.
        micro_batch: Rows per forward pass.
        chunk: Tokens whose logits are held at once.
    """
    sites = capture.captured_sites(config, engine.decoder.spec.n_layers)
    n_rows, seq_len = rows.shape[0] * engine.world_size, rows.shape[1] - 1
    samples = capture.sample_index(config.val, n_rows, seq_len)
    engine.optimizer.zero_grad(set_to_none=True)
    with eagerly(engine.decoder), capture.ActivationTap(engine.decoder, sites, samples, config.per_row_loss) as tap:
        total = accumulate(engine, rows, micro_batch=micro_batch, chunk=chunk, tap=tap)
    dtype = capture.storage_dtype(config)
    unscaled(engine)
    tensors = tap.gathered(engine, dtype) | capture.gradients(engine, sites, dtype)
    engine.optimizer.zero_grad(set_to_none=True)
    loss = engine.sum_over_ranks(total).item() / (n_rows * seq_len)
    return Captured(samples, tensors, tuple(sites), loss)


def unscaled(engine: Engine) -> None:
    """Divide gradients by the loss scale (16-mixed) without the scaler's once-per-step bookkeeping."""
    scaler = getattr(engine.fabric.strategy.precision, "scaler", None)
    if scaler is not None:
        for parameter in engine.parameters:
            if parameter.grad is not None:
                parameter.grad /= scaler.get_scale()


@torch.no_grad()
def validation_loss(engine: Engine, rows: Tensor, *, batch_size: int, chunk: int) -> float:
    """Mean token loss (nats) over the validation rows, this process holding its share `rows`. A collective."""
    total = torch.zeros((), device=rows.device)
    for start in range(0, rows.shape[0], batch_size):
        total += next_token_loss(engine.model, rows[start : start + batch_size], chunk=chunk, reduction="sum")
    n_tokens = rows.shape[0] * engine.world_size * (rows.shape[1] - 1)
    return engine.sum_over_ranks(total).item() / n_tokens
