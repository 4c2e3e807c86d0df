"""The next-token loss, without ever holding the logits of a whole batch.

With a vocabulary of 50,304 the logits of one batch are larger than the model. Here they exist for `chunk` positions
at a time: their loss and, when a gradient will be asked for, their contribution to the gradients of the hidden states
and of the head are computed at once, and the logits are forgotten. No product is computed twice, so this is not slower
than the plain form; value and gradient are the plain form's.

Between the products there are passes over the logits, which cost what memory is slow: a CPU makes them while a few rows
are in its cache, a GPU in one compiled kernel (`compiled`), or one after the other.

Letters as in `model.decoder`, and N = B · T positions, n of them in a chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

Reduction = Literal["sum", "mean"]
SoftmaxGradient = Callable[[Tensor, Tensor, float | None, torch.dtype], Tensor]
"""What `_softmax_gradient_` is."""

_CPU_BLOCK = 2**21
"""Numbers that fit into a CPU's cache, with room for others."""


def next_token_loss(
    model: nn.Module,
    rows_BT: Tensor,
    *,
    chunk: int = 512,
    reduction: Reduction = "mean",
    each_BT: Tensor | None = None,
    compiled: bool = False,
) -> Tensor:
    """Return the cross-entropy in nats, a float32 scalar, of each row's tokens but the first given those before it.

    Args:
        model: a `Decoder`, bare or wrapped (DDP, FSDP2, Fabric).
        rows_BT: token ids, (B, seq_len + 1) int64: what goes in and, one position later, what should come out.
        chunk: positions whose logits exist at the same time; 0 for all.
        reduction: `sum` over all B · seq_len predicted tokens, or their `mean`.
        each_BT: (B, seq_len) float32, filled with the loss of each predicted token if given.
        compiled: whether what lies between the products may be compiled, which pays on a GPU; on a CPU it is not done.
    """
    targets_BT = rows_BT[:, 1:]
    score = partial(head_loss, targets_BT=targets_BT, chunk=chunk, each_BT=each_BT, compiled=compiled)
    total: Tensor = model(rows_BT[:, :-1], score=score)
    return total / targets_BT.numel() if reduction == "mean" else total


def head_loss(
    hidden_BTD: Tensor,
    head_VD: Tensor,
    *,
    targets_BT: Tensor,
    chunk: int,
    each_BT: Tensor | None = None,
    compiled: bool = False,
) -> Tensor:
    """Return the summed cross-entropy of `targets_BT` under softmax(hidden · headᵀ), a float32 scalar.

    `each_BT`, if given, is filled with its terms. `compiled` as in `next_token_loss`.
    """
    targets_N = targets_BT.flatten()
    each_N = None if each_BT is None else each_BT.view(-1)
    apply: Callable[..., Tensor] = _ChunkedCrossEntropy.apply
    # Within `forward` autograd is off, and what an input needs is said without regard to that.
    wanted = torch.is_grad_enabled()
    softmax = _at_once() if compiled and hidden_BTD.device.type != "cpu" else _softmax_gradient_
    return apply(hidden_BTD.flatten(0, 1), head_VD, targets_N, chunk or targets_N.numel(), each_N, wanted, softmax)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Σ over positions of −log softmax(hidden · headᵀ)[target], its gradient computed on the way forward."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        head_VD: Tensor,
        targets_N: Tensor,
        chunk: int,
        each_N: Tensor | None,
        wanted: bool,
        softmax: SoftmaxGradient,
    ) -> Tensor:
        device = hidden_ND.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_ND.dtype
        wide = torch.promote_types(dtype, torch.float32)
        with torch.autocast(device, enabled=False):
            total, grad_hidden, grad_head = _loss_and_gradients(
                hidden_ND.to(dtype),
                head_VD.to(dtype),
                targets_N,
                min(chunk, targets_N.numel()),
                wide,
                ctx.needs_input_grad if wanted else (False, False),
                each_N,
                softmax,
            )
        ctx.gradients = (grad_hidden, hidden_ND.dtype), (grad_head, head_VD.dtype)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None, None, None]:
        (grad,), gradients, ctx.gradients = grad_outputs, ctx.gradients, None
        scaled = [None if gradient is None else gradient.mul_(grad).to(dtype) for gradient, dtype in gradients]
        return scaled[0], scaled[1], None, None, None, None, None


def _loss_and_gradients(
    hidden_ND: Tensor,
    head_VD: Tensor,
    targets_N: Tensor,
    chunk: int,
    wide: torch.dtype,
    needed: tuple[bool, ...],
    each_N: Tensor | None,
    softmax: SoftmaxGradient,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The summed loss, and its gradients in the hidden states and in the head as far as they are needed, in `wide`.

    `each_N`, if given, is filled with the loss of each position.
    """
    (N, D), V = hidden_ND.shape, head_VD.shape[0]
    total = torch.zeros((), device=hidden_ND.device, dtype=wide)
    grad_hidden = hidden_ND.new_empty((N, D), dtype=wide) if needed[0] else None
    grad_head = head_VD.new_zeros((V, D), dtype=wide) if needed[1] else None
    # One buffer for the logits of every chunk: fresh memory of this size costs as much as a pass over it.
    buffer_nV = hidden_ND.new_empty((chunk, V))
    part_VD = head_VD.new_empty((V, D)) if needed[1] else None
    # A probability of 1/50,304 is below float16's normal numbers (6e-5 and up); scaled by this it is not, and the
    # head's gradient, a sum over up to all positions of a chunk, still stays below the largest (65,504).
    scale = 8.0 if hidden_ND.dtype == torch.float16 else 1.0
    for start in range(0, N, chunk):
        rows = slice(start, min(start + chunk, N))
        hidden_nD = hidden_ND[rows]
        logits_nV = torch.mm(hidden_nD, head_VD.T, out=buffer_nV[: len(hidden_nD)])
        losses_n = softmax(logits_nV, targets_N[rows], scale if any(needed[:2]) else None, wide)
        total += losses_n.sum()
        if each_N is not None:
            each_N[rows] = losses_n
        if grad_hidden is not None:
            torch.mul(logits_nV @ head_VD, 1.0 / scale, out=grad_hidden[rows])
        if grad_head is not None:
            grad_head.add_(torch.mm(logits_nV.T, hidden_nD, out=part_VD), alpha=1.0 / scale)
    return total, grad_hidden, grad_head


def _softmax_gradient_(logits_nV: Tensor, targets_n: Tensor, scale: float | None, wide: torch.dtype) -> Tensor:
    """Return the cross-entropy (n,) of these logits, and overwrite them with `scale` times its gradient; None leaves
    them as they are.

    On a CPU a few rows at a time, so that the passes over them stay in the cache: that is three times faster than
    passes over the chunk, and faster than one compiled kernel.
    """
    n, V = logits_nV.shape
    block = max(1, _CPU_BLOCK // V) if logits_nV.device.type == "cpu" else n
    losses = []
    wide_bV = logits_nV.new_empty((min(block, n), V), dtype=wide)
    for start in range(0, n, block):
        low_bV, targets_b1 = logits_nV[start : start + block], targets_n[start : start + block, None]
        x_bV = wide_bV[: len(low_bV)].copy_(low_bV)
        x_bV.sub_(x_bV.amax(1, keepdim=True))
        target_b1 = x_bV.gather(1, targets_b1)
        sum_b1 = x_bV.exp_().sum(1, keepdim=True)
        loss_b1 = sum_b1.log() - target_b1
        losses.append(loss_b1.flatten())
        if scale is None:
            continue
        # softmax − 1 at the target, as expm1 of its logarithm: exact where the probability is nearly one.
        x_bV.mul_(scale / sum_b1).scatter_(1, targets_b1, scale * torch.expm1(-loss_b1))
        low_bV.copy_(x_bV)
    return torch.cat(losses)


def _softmax_gradient_at_once_(logits_nV: Tensor, targets_n: Tensor, scale: float | None, wide: torch.dtype) -> Tensor:
    """`_softmax_gradient_` as one expression, for a compiler that makes one pass of it: no logits in `wide` exist."""
    targets_n1 = targets_n[:, None]
    x_nV = logits_nV.to(wide)
    x_nV = x_nV - x_nV.amax(1, keepdim=True)
    e_nV = x_nV.exp()
    sum_n1 = e_nV.sum(1, keepdim=True)
    loss_n1 = sum_n1.log() - x_nV.gather(1, targets_n1)
    if scale is not None:
        is_target_nV = torch.arange(logits_nV.shape[1], device=logits_nV.device) == targets_n1
        logits_nV.copy_(torch.where(is_target_nV, scale * torch.expm1(-loss_n1), e_nV * (scale / sum_n1)))
    return loss_n1.flatten()


@cache
def _at_once() -> SoftmaxGradient:
    """That expression, compiled; made when it is first needed, since importing the compiler takes seconds."""
    return torch.compile(_softmax_gradient_at_once_)
