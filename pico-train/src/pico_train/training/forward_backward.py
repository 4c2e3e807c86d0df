"""One forward and backward pass over a batch, in micro-batches; and the validation pass built on it.

A pass leaves in the gradients the gradient of the *mean* token loss over the global batch, under any number of
processes and micro-batches, and waits for the device nowhere.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pico_schema.sites import Site
from pico_train.config import CapturesConfig
from pico_train.training import capture
from pico_train.training.engine import Engine
from pico_train.training.loss import next_token_loss


@dataclass(frozen=True)
class Share:
    """Which of some rows one process takes: a stretch, in rank order. Shares differ by at most one row, and one may be
    empty: where there are fewer rows than processes."""

    first: int
    """Number of its first row among all."""
    n_rows: int
    """Rows of this process."""
    most: int
    """Rows of the largest share: every process runs as many passes as that one takes, since a pass is a collective."""
    n_all: int
    """Rows of all processes."""

    @classmethod
    def of(cls, n_all: int, rank: int, world_size: int) -> Share:
        """What process `rank` takes of `n_all` rows: each row is taken by exactly one process."""
        least, extra = divmod(n_all, world_size)
        return cls(rank * least + min(rank, extra), least + (rank < extra), least + (extra > 0), n_all)

    def of_rows(self, rows: Tensor) -> Tensor:
        """This share of all rows (n_all, T + 1); where it is empty, the first row, for passes that count nothing."""
        return rows[self.first : self.first + self.n_rows] if self.n_rows else rows[:1]


def accumulate(
    engine: Engine,
    rows: Tensor,
    *,
    micro_batch: int,
    chunk: int,
    tap: capture.ActivationTap | None = None,
    share: Share | None = None,
    factor: float = 1.0,
) -> Tensor:
    """Add the gradient of the mean token loss over the global batch to the gradients.

    Args:
        engine: Model and processes.
        rows: (b, seq_len + 1) token ids on the device: this process's share; at least one row, whatever the share.
        micro_batch: Rows per forward pass.
        chunk: Tokens whose logits are held at once.
        tap: Keeps activations on the way.
        share: Which rows of the global batch they are; by default every process holds equally many.
        factor: What the gradient is multiplied by, beside the loss scale.

    Returns:
        This process's *sum* of token losses (nats), a float32 scalar on the device.
    """
    world = engine.world_size
    share = share or Share.of(rows.shape[0] * world, engine.rank, world)
    n_tokens = share.n_all * (rows.shape[1] - 1) / world
    total = torch.zeros((), device=rows.device)
    for start in range(0, share.most, micro_batch):
        part = rows[start : min(start + micro_batch, share.n_rows)]
        idle = not len(part)
        if idle:  # others have rows left: this process takes part in their pass with one that counts nothing
            part = rows[:1]
        if tap is not None:
            tap.expect(share.first + start, 0 if idle else len(part), rows.device)
        each_BT = None
        if tap is not None and tap.per_row_loss and not idle:
            each_BT = torch.empty(part[:, 1:].shape, device=rows.device)
        # Where activations are tapped nothing is compiled, and what is written for a compiler would take more memory.
        compiled = engine.decoder.compiled and tap is None
        with engine.accumulating(more=start + micro_batch < share.most):
            loss = next_token_loss(engine.model, part, chunk=chunk, reduction="sum", each_BT=each_BT, compiled=compiled)
            # Processes average their gradients, so dividing by their mean number of tokens makes the mean over all.
            engine.fabric.backward(loss * 0.0 if idle else loss / n_tokens * factor)
        if not idle:
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

    A gradient that overflows float16 under the present loss scale is computed again under a smaller one.

    Args:
        engine: Model and processes.
        rows: (n, seq_len + 1) on the device: all of them, on every process; each scores its share.
        config: Sites, positions, number format.
        micro_batch: Rows per forward pass.
        chunk: Tokens whose logits are held at once.
    """
    sites = capture.captured_sites(config, engine.decoder.spec.n_layers)
    n_rows, seq_len = rows.shape[0], rows.shape[1] - 1
    samples = capture.sample_index(config.val, n_rows, seq_len)
    share = Share.of(n_rows, engine.rank, engine.world_size)
    mine, factor = share.of_rows(rows), 1.0
    while True:
        engine.optimizer.zero_grad(set_to_none=True)
        with eagerly(engine.decoder), capture.ActivationTap(engine.decoder, sites, samples, config.per_row_loss) as tap:
            total = accumulate(engine, mine, micro_batch=micro_batch, chunk=chunk, tap=tap, share=share, factor=factor)
        loss = engine.sum_over_ranks(total).item() / (n_rows * seq_len)
        if not unscaled(engine, factor) or not math.isfinite(loss):
            break
        factor /= 2
    dtype = capture.storage_dtype(config)
    tensors = tap.gathered(engine, dtype) | capture.gradients(engine, sites, dtype)
    engine.optimizer.zero_grad(set_to_none=True)
    return Captured(samples, tensors, tuple(sites), loss)


def unscaled(engine: Engine, factor: float) -> bool:
    """Divide gradients by the loss scale (16-mixed) and `factor`, without the scaler's once-per-step bookkeeping.

    Returns:
        Whether they overflowed, and would not under a smaller scale. A collective where parameters are sharded.
    """
    if engine.scaler is None:
        return False
    scale = engine.scaler.get_scale() * factor
    for parameter in engine.parameters:
        if parameter.grad is not None:
            parameter.grad /= scale
    return scale > 1.0 and not math.isfinite(engine.gradient_norm().item())
