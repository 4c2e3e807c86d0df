"""The next-token loss, without ever holding the logits of a whole batch.

With a vocabulary of 50,304 the logits of one batch are larger than the model. Here they exist for `chunk` positions
at a time: their loss and, when a gradient will be asked for, their contribution to the gradients of the hidden states
and of the head are computed at once, and the logits are forgotten. No product is computed twice, so this is not slower
than the plain form; value and gradient are the plain form's.

Letters as in `model.decoder`, and N = B · T positions, n of them in a chunk.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

Reduction = Literal["sum", "mean"]


def next_token_loss(model: nn.Module, rows_BT: Tensor, *, chunk: int = 512, reduction: Reduction = "mean") -> Tensor:
    """Return the cross-entropy in nats, a float32 scalar, of each row's tokens but the first given those before it.

    Args:
        model: a `Decoder`, bare or wrapped (DDP, FSDP2, Fabric).
        rows_BT: token ids, (B, seq_len + 1) int64: what goes in and, one position later, what should come out.
        chunk: positions whose logits exist at the same time; 0 for all.
        reduction: `sum` over all B · seq_len predicted tokens, or their `mean`.
    """
    targets_BT = rows_BT[:, 1:]
    total = model(rows_BT[:, :-1], score=partial(head_loss, targets_BT=targets_BT, chunk=chunk))
    return total / targets_BT.numel() if reduction == "mean" else total


def head_loss(hidden_BTD: Tensor, head_VD: Tensor, *, targets_BT: Tensor, chunk: int) -> Tensor:
    """Return the summed cross-entropy of `targets_BT` under softmax(hidden · headᵀ), a float32 scalar."""
    targets_N = targets_BT.flatten()
    return _ChunkedCrossEntropy.apply(hidden_BTD.flatten(0, 1), head_VD, targets_N, chunk or targets_N.numel())


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Σ over positions of −log softmax(hidden · headᵀ)[target], its gradient computed on the way forward."""

    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, head_VD: Tensor, targets_N: Tensor, chunk: int) -> Tensor:
        device = hidden_ND.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_ND.dtype
        wide = torch.promote_types(dtype, torch.float32)
        hidden_low, head_low = hidden_ND.to(dtype), head_VD.to(dtype)
        need_hidden, need_head = ctx.needs_input_grad[0], ctx.needs_input_grad[1]
        grad_hidden = torch.empty_like(hidden_ND) if need_hidden else None
        grad_head = torch.zeros_like(head_VD, dtype=wide) if need_head else None
        # A probability of 1/50,304 is below float16's normal range; scaled by this it is not.
        scale = 1024.0 if dtype == torch.float16 else 1.0
        total = torch.zeros((), device=hidden_ND.device, dtype=wide)
        with torch.autocast(device, enabled=False):
            for start in range(0, hidden_ND.shape[0], chunk):
                rows = slice(start, start + chunk)
                hidden_nD, targets_n1 = hidden_low[rows], targets_N[rows, None]
                logits_nV = (hidden_nD @ head_low.T).to(wide)
                logsum_n1 = logits_nV.logsumexp(-1, keepdim=True)
                total += (logsum_n1 - logits_nV.gather(1, targets_n1)).sum()
                if not (need_hidden or need_head):
                    continue
                probability_nV = logits_nV.sub_(logsum_n1).exp_()
                grad_nV = probability_nV.scatter_add_(1, targets_n1, torch.full_like(logsum_n1, -1))
                grad_nV = grad_nV.mul_(scale).to(dtype) if scale != 1.0 else grad_nV.to(dtype)
                if grad_hidden is not None:
                    grad_hidden[rows] = (grad_nV @ head_low) / scale if scale != 1.0 else grad_nV @ head_low
                if grad_head is not None:
                    grad_head.add_(grad_nV.T @ hidden_nD, alpha=1.0 / scale)
        ctx.grad_hidden, ctx.grad_head, ctx.head_dtype = grad_hidden, grad_head, head_VD.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (upstream,) = grad_outputs
        grad_hidden, grad_head = ctx.grad_hidden, ctx.grad_head
        ctx.grad_hidden = ctx.grad_head = None
        if grad_hidden is not None:
            grad_hidden = grad_hidden * upstream.to(grad_hidden.dtype)
        if grad_head is not None:
            grad_head = grad_head.mul_(upstream).to(ctx.head_dtype)
        return grad_hidden, grad_head, None, None
