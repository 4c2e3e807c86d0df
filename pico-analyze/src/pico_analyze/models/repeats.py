"""A model that reads repeated random tokens: where its heads look, and what they copy.

Letters: B rows at a time, J positions of the first copy, K heads of values, H heads, L layers, D width of the residual
stream, d of a value.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from pico_analyze.models.patterns import Patterns
from pico_analyze.probes import induction
from pico_analyze.probes.precision import wide

if TYPE_CHECKING:
    from pico_analyze.models.anatomy import Anatomy


@dataclass
class Repeats:
    """What was seen while repeated random tokens were read."""

    prefix_LHB: np.ndarray | None
    no_prefix: str | None
    copying_LHB: np.ndarray | None
    no_copying: str | None


def read_repeats(model: Any, parts: Anatomy, ids_BT: np.ndarray, *, batch_size: int, device: str) -> Repeats:
    """Have a model read repeated random tokens: prefix matching and copying of each head, by row.

    Args:
        model: In evaluation mode.
        parts: Where it has what.
        ids_BT: (B, 2 L), as `probes.induction.repeated_tokens` gives them; all are read.
        batch_size: Rows of a forward pass.
        device: Where the model is.
    """
    patterns = Patterns(parts, lambda weights: {"prefix_matching": induction.prefix_matching(weights)})
    values = _Values(model, parts, ids_BT.shape[1] // 2)
    with torch.inference_mode(), patterns.on(model), values.on(model):
        for first in range(0, len(ids_BT), batch_size):
            batch = torch.as_tensor(ids_BT[first : first + batch_size], device=device)
            patterns.begin(*batch.shape)
            values.begin(*batch.shape)
            model(input_ids=batch, use_cache=False)
            values.end(batch)
    found, why = patterns.found()
    copied, no_copying = values.found()
    return Repeats(found.get("prefix_matching"), why, copied, no_copying)


class _Values:
    """What each head adds to the logits of a row's tokens when it attends to one of them alone."""

    def __init__(self, model: Any, parts: Anatomy, length: int) -> None:
        self._model, self._parts, self._length = model, parts, length
        self._head = model.get_output_embeddings()
        self.why = parts.no_blocks or parts.no_values
        if self.why is None and self._head is None:
            self.why = "the model has no unembedding"
        if self.why is None and self._head.weight.shape[1] != parts.spec.d_model:
            self.why = "the model projects its residual stream before the unembedding"
        self._projections: list[Tensor] = (
            [] if self.why else [self._projection(layer) for layer in range(len(parts.blocks))]
        )
        self._now: dict[int, Tensor] = {}
        self._kept: list[list[np.ndarray]] = [[] for _ in parts.blocks]
        self._rows = self._seq_len = 0

    def _projection(self, layer: int) -> Tensor:
        """W_O of a layer, (D, H, d_v), with the scale of the final norm, float32."""
        place = self._parts.outputs[layer]
        assert place.source is not None
        parameters = dict(self._model.named_parameters(remove_duplicate=False))
        weight = parameters[place.source.tensor].detach()
        cut = np.ascontiguousarray(place.source.cut(weight.float().cpu().numpy(), self._parts.spec))
        scaled = torch.as_tensor(cut, device=weight.device) * self._scale(weight)[:, None]
        return scaled.reshape(len(scaled), self._parts.spec.n_heads, -1)

    def _scale(self, like: Tensor) -> Tensor:
        """g of the final norm: what a norm of that kind makes of ones; 1 where there is none."""
        width = self._parts.spec.d_model
        if self._parts.norm is None:
            return torch.ones(width, device=like.device)
        norm = self._model.get_submodule(self._parts.norm)
        if isinstance(norm, nn.LayerNorm):
            return torch.ones(width, device=like.device) if norm.weight is None else norm.weight.detach().float()
        with torch.no_grad():  # the root mean square of ones is 1
            made: Tensor = norm(torch.ones(1, width, device=like.device, dtype=like.dtype))
        return made[0].float()

    @contextmanager
    def on(self, model: nn.Module) -> Iterator[None]:
        handles = []
        for layer, place in enumerate(self._parts.values if self.why is None else ()):
            columns = None if place.columns is None else torch.as_tensor(place.columns)
            handles.append(model.get_submodule(place.module).register_forward_hook(self._hook(layer, columns)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def begin(self, rows: int, seq_len: int) -> None:
        self._rows, self._seq_len = rows, seq_len
        self._now.clear()

    def _hook(self, layer: int, columns: Tensor | None) -> Any:
        def keep(_module: nn.Module, _args: Any, output: Any) -> None:
            found = output[0] if isinstance(output, tuple) else output
            given = found.reshape(self._rows, self._seq_len, -1)[:, : self._length]
            self._now[layer] = given.clone() if columns is None else given.index_select(2, columns.to(given.device))

        return keep

    def end(self, batch_BT: Tensor) -> None:
        """Copying of each head on the rows that were just read."""
        spec = self._parts.spec
        for layer, given in self._now.items():
            values_BJKd = given.float().reshape(*given.shape[:2], spec.n_kv_heads, -1)
            values_BJHd = values_BJKd.repeat_interleave(spec.n_heads // spec.n_kv_heads, dim=2)
            rows = []
            for values_JHd, tokens in zip(values_BJHd, batch_BT[:, : self._length], strict=True):
                read_JD = self._head.weight[tokens].float()
                added_HJD = torch.einsum("jhd,Dhd->hjD", values_JHd, self._projections[layer])
                rows.append(induction.copying((added_HJD @ read_JD.T).to(wide(added_HJD))))
            self._kept[layer].append(torch.stack(rows).cpu().numpy().astype(np.float64))

    def found(self) -> tuple[np.ndarray | None, str | None]:
        """(L, H, B), or why there is none."""
        if self.why is not None:
            return None, f"copying cannot be read: {self.why}"
        return np.stack([np.concatenate(kept).T for kept in self._kept]), None
