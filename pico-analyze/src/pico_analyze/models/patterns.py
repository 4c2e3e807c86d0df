"""Attention of a model that reads, reduced layer by layer: each is looked at while its own module returns it.

Nothing that grows with the square of a row's length is kept. Letters: B rows at a time, N of all, T positions, H heads,
L layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

if TYPE_CHECKING:
    from pico_analyze.models.anatomy import Anatomy


class Patterns:
    """Reduces the attention of each layer while it is there.

    Args:
        parts: Where attention may be.
        reduce: (B, H, T, T) → (B, H) by metric.
    """

    def __init__(self, parts: Anatomy, reduce: Callable[[Tensor], dict[str, Tensor]]) -> None:
        self._parts, self._reduce = parts, reduce
        self._kept: dict[int, list[dict[str, np.ndarray]]] = {layer: [] for layer in parts.attention}
        self._done: set[int] = set()
        self._rows = self._seq_len = 0

    def begin(self, rows: int, seq_len: int) -> None:
        """Rows that are read next, and their length."""
        self._rows, self._seq_len = rows, seq_len
        self._done.clear()

    @contextmanager
    def on(self, model: nn.Module) -> Iterator[None]:
        """Look while the block runs."""
        modules = dict(model.named_modules())
        handles = [
            modules[name].register_forward_hook(self._hook(layer))
            for layer, names in self._parts.attention.items()
            for name in names
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, layer: int) -> Any:
        def reduce(_module: nn.Module, _args: Any, output: Any) -> None:
            weights = self._weights(output)
            if weights is None or layer in self._done:  # the innermost module that gives them comes first
                return
            self._done.add(layer)
            found = self._reduce(weights)
            self._kept[layer].append({name: value.cpu().numpy().astype(np.float64) for name, value in found.items()})

        return reduce

    def _weights(self, output: Any) -> Tensor | None:
        shape = self._rows, self._parts.spec.n_heads, self._seq_len, self._seq_len
        for one in output if isinstance(output, tuple) else ():
            if isinstance(one, Tensor) and tuple(one.shape) == shape:
                return one
        return None

    def found(self) -> tuple[dict[str, np.ndarray], str | None]:
        """(L, H, N) by metric, or why there is none."""
        if self._parts.no_blocks is not None:
            return {}, f"attention cannot be read: {self._parts.no_blocks}"
        lacking = [layer for layer, kept in self._kept.items() if not kept]
        if lacking:
            return {}, f"attention cannot be read: no module of layer {lacking[0]} gives weights of its heads"
        names = self._kept[0][0]
        return {
            name: np.stack([np.concatenate([one[name] for one in kept]).T for kept in self._kept.values()])
            for name in names
        }, None
