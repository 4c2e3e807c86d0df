"""Windows of tokens in, the sum of each window's losses out: the one primitive that all built-in measures rest on.

A document longer than the model reads is scored in strides: each token once, with at least `context - stride` tokens
before it (but for those at the beginning). Windows of like length go through the model together, padded at their end,
which a causal model does not see. Which windows share a batch depends on neither processes nor ranks, so one process
and several compute the same numbers.

Letters: B windows of a batch, T tokens predicted in the longest of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pico_train.training.engine import Engine
from pico_train.training.forward_backward import eagerly
from pico_train.training.loss import next_token_loss


@dataclass(frozen=True)
class Window:
    """Tokens that the model reads at once, and those of them that count."""

    ids: np.ndarray
    """(n + 1,) token ids: the first is never predicted, the last never read."""
    n_scored: int
    """How many of the last tokens count, at most n."""
    owner: int
    """What the loss is added to: the number of a document or sentence."""


def windows_of(
    ids: np.ndarray, owner: int, *, context: int, stride: int | None = None, n_scored: int | None = None
) -> list[Window]:
    """The windows in which a document is scored: each token but the first once.

    Args:
        ids: (n + 1,) the document's tokens, led by one that is only read.
        owner: What the losses are added to.
        context: Most tokens that the model reads.
        stride: Tokens by which a window goes on, at most `context`; by default half of it.
        n_scored: Only the last so many tokens count; by default all n.

    Returns:
        Windows in order; none where nothing is to be predicted.
    """
    n = len(ids) - 1
    first = 0 if n_scored is None else n - n_scored
    stride = stride or max(1, context // 2)
    windows, end = [], first
    while end < n:
        # The first window takes all that the model reads; each later one goes on by a stride.
        reach = end + (context if end == first == 0 else min(stride, context))
        reach = min(max(reach, min(n, context)), n)
        windows.append(Window(ids[max(0, reach - context) : reach + 1], reach - end, owner))
        end = reach
    return windows


def token_losses(model: nn.Module, *, chunk: int) -> Callable[[Tensor], Tensor]:
    """A decoder's `Scorer.each`, `chunk` tokens' logits at a time."""

    def each(rows: Tensor) -> Tensor:
        losses_BT = torch.empty(rows[:, 1:].shape, device=rows.device)
        next_token_loss(model, rows, chunk=chunk, reduction="sum", each_BT=losses_BT)
        return losses_BT

    return each


@dataclass(frozen=True)
class Scorer:
    """A model as the measures see it, and which part of the work is this process's."""

    each: Callable[[Tensor], Tensor]
    """(B, T + 1) int64 on the device → (B, T) float32: the loss of each token but the first, in nats."""
    context: int
    """Most tokens that the model reads."""
    device: torch.device
    """Where it computes."""
    rank: int = 0
    """This process."""
    world_size: int = 1
    """Processes that share the work."""
    add_up: Callable[[Tensor], Tensor] = lambda values: values
    """Element-wise sum over the processes; a collective."""

    @classmethod
    def of(cls, engine: Engine, *, chunk: int) -> Scorer:
        """The live model of a run, `chunk` tokens' logits at a time."""

        losses_of = token_losses(engine.model, chunk=chunk)

        def each(rows: Tensor) -> Tensor:
            with eagerly(engine.decoder):  # lengths vary: compiled blocks would be compiled again and again
                return losses_of(rows)

        context = engine.decoder.spec.max_seq_len
        return cls(each, context, engine.device, engine.rank, engine.world_size, engine.sum_over_ranks)


@torch.no_grad()
def sums(scorer: Scorer, windows: Sequence[Window], n_owners: int, *, batch_size: int) -> np.ndarray:
    """The summed loss of each owner's scored tokens, (n_owners,) float64, in nats. A collective.

    Args:
        scorer: The model.
        windows: In any order.
        n_owners: Owners are numbered below this.
        batch_size: Windows of full length that go through the model at once; of shorter ones more do.
    """
    total = torch.zeros(n_owners, dtype=torch.float64)
    batches = batches_of([len(window.ids) - 1 for window in windows], batch_size * scorer.context)
    for turn in range(-(-len(batches) // scorer.world_size)):
        number = turn * scorer.world_size + scorer.rank
        idle = number >= len(batches)  # others have a batch left, and a pass may be a collective
        chosen = [windows[place] for place in (batches[0][:1] if idle else batches[number])]
        losses_BT = scorer.each(padded([window.ids for window in chosen]).to(scorer.device)).cpu().double()
        if idle:
            continue
        for window, losses_T in zip(chosen, losses_BT, strict=True):
            n = len(window.ids) - 1
            total[window.owner] += losses_T[n - window.n_scored : n].sum()
    if scorer.world_size > 1:
        total = scorer.add_up(total.to(scorer.device)).cpu()
    return total.numpy()


def sums_of(scorer: Scorer, texts: Sequence[np.ndarray], *, batch_size: int, stride: int | None) -> np.ndarray:
    """The summed loss of each of these texts, (texts,) float64, in nats. A collective.

    Args:
        scorer: The model.
        texts: Token ids of each, as `windows_of` takes them.
        batch_size: As `sums`.
        stride: As `windows_of`.
    """
    windows = [
        window
        for number, ids in enumerate(texts)
        for window in windows_of(ids, number, context=scorer.context, stride=stride)
    ]
    return sums(scorer, windows, len(texts), batch_size=batch_size)


def batches_of(lengths: Sequence[int], most_tokens: int) -> list[list[int]]:
    """Numbers of windows that share a batch: the longest first, at most `most_tokens` with their padding."""
    batches: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= most_tokens:
            batches[-1].append(place)
        else:
            batches.append([place])
    return batches


def padded(rows: Sequence[np.ndarray]) -> Tensor:
    """Rows of token ids as one tensor (B, T + 1) int64, the shorter ones filled up with their last token."""
    longest = max(map(len, rows))
    out = np.empty((len(rows), longest), np.int64)
    for line, row in zip(out, rows, strict=True):
        line[: len(row)], line[len(row) :] = row, row[-1]
    return torch.from_numpy(out)
