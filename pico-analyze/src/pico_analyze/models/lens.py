"""What a model would say if it ended after a block: the final norm and the unembedding, after each.

Letters: P positions of a row, S = rows × P, L layers, D width of the residual stream, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from pico_analyze.probes import distributions

if TYPE_CHECKING:
    from pico_analyze.models.anatomy import Anatomy

_SAME = 1e-2
"""How far, in ln p, the lens after the last block may lie from the output: rounding of float16 and no more."""


class Lens:
    """The residual stream after each block, through the final norm and the unembedding."""

    def __init__(self, model: Any, parts: Anatomy, positions: Sequence[int]) -> None:
        self._parts, self._positions = parts, list(positions)
        self._norm = None if parts.norm is None else model.get_submodule(parts.norm)
        self._head = model.get_output_embeddings()
        self._now: dict[int, Tensor] = {}
        self._kl: list[list[np.ndarray]] = [[] for _ in parts.blocks]
        self._same: list[list[np.ndarray]] = [[] for _ in parts.blocks]
        self._off = 0.0

    @contextmanager
    def on(self, model: nn.Module) -> Iterator[None]:
        """Look while the block runs."""
        handles = [
            model.get_submodule(block).register_forward_hook(self._hook(layer))
            for layer, block in enumerate(self._parts.blocks)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, layer: int) -> Any:
        def keep(_module: nn.Module, _args: Any, output: Any) -> None:
            stream = output[0] if isinstance(output, tuple) else output
            self._now[layer] = stream[:, self._positions].clone() if stream.ndim == 3 else stream[:0]

        return keep

    def compare(self, row: int, log_p_PV: np.ndarray) -> None:
        """One row's output at the positions, with what each block would have said there."""
        if self._head is None:
            return
        for layer, stream_BPD in self._now.items():
            if not len(stream_BPD):
                continue
            stream = stream_BPD[row] if self._norm is None else self._norm(stream_BPD[row])
            logits = self._head(stream)
            lens = logits.float().log_softmax(-1).cpu().numpy()
            self._kl[layer].append(distributions.kl(log_p_PV, lens))
            self._same[layer].append(~distributions.flips(log_p_PV, lens))
            if layer == len(self._parts.blocks) - 1:
                probable = log_p_PV > -20  # far down, rounding is large and says nothing
                self._off = max(self._off, float(np.abs(log_p_PV - lens)[probable].max(initial=0)))

    def found(self) -> tuple[np.ndarray | None, np.ndarray | None, str | None]:
        """(L, S) of KL and of agreement, or why there is none."""
        if self._parts.no_blocks is not None:
            return None, None, f"no lens: {self._parts.no_blocks}"
        if self._head is None or not all(self._kl):
            return None, None, "no lens: the model has no unembedding, or a block gives no residual stream"
        if self._off > _SAME:
            return (
                None,
                None,
                (
                    f"no lens: after the last block it is not the model's output (ln p differs by {self._off:.2g}): "
                    "the model does more than a final norm and an unembedding"
                ),
            )
        return (
            np.stack([np.concatenate(one) for one in self._kl]),
            np.stack([np.concatenate(one) for one in self._same]),
            None,
        )
