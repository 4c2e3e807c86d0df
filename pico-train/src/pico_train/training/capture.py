"""Activations and gradients at chosen sites, taken from a training step as it happens.

`ActivationTap` hooks the modules of a decoder and keeps the chosen positions of the chosen rows; `gradients` reads the
weights' accumulated gradients. Neither runs anything a second time. Gathering over processes restores the order of the
global batch: samples are ordered by (row, position), whatever the number of processes and micro-batches.

Letters: B rows of a micro-batch, T positions, R rows kept, P positions kept, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pico_schema.layout import activation_tensor, gradient_tensor
from pico_schema.sites import Site, expand, llama_module, llama_parameter
from pico_train.config import CapturesConfig, CaptureSplit
from pico_train.training.engine import Engine, whole

MOMENTS = ("exp_avg", "exp_avg_sq", "momentum_buffer", "row_var", "col_var", "variance")
"""What optimizers keep of a parameter, as torch names it."""
ROW_LOSS = "row_loss"
"""Name of the tensor with the mean token loss of every row of the batch, (B,) float32, in nats."""


@dataclass(frozen=True)
class SampleIndex:
    """Which samples of a batch are kept."""

    rows: tuple[int, ...]
    """Rows of the global batch, ascending."""
    positions: tuple[int, ...]
    """Positions of each row, ascending."""


def sample_index(split: CaptureSplit, n_rows: int, seq_len: int) -> SampleIndex:
    """The samples that a split keeps of a batch of `n_rows` × `seq_len` predictions.

    k of n are taken evenly spaced: the last of each of k equal stretches, so that `last` is the case k = 1.
    """
    rows = range(n_rows) if split.rows is None else _spaced(split.rows, n_rows)
    if split.positions == "all":
        positions: Iterable[int] = range(seq_len)
    else:
        positions = _spaced(1 if split.positions == "last" else split.positions, seq_len)
    return SampleIndex(tuple(rows), tuple(positions))


def _spaced(k: int, n: int) -> list[int]:
    k = min(k, n)
    return [((i + 1) * n) // k - 1 for i in range(k)]


@dataclass
class ActivationTap:
    """Hooks on a decoder that keep activations while it is entered.

    Before each forward pass of a micro-batch, `expect` says which of its rows to keep; with `per_row_loss`, what each
    token's loss was is given to `note_losses` after it.
    """

    decoder: nn.Module
    sites: list[Site]
    samples: SampleIndex
    per_row_loss: bool = False
    kept: dict[Site, list[Tensor]] = field(default_factory=dict)
    row_losses: list[Tensor] = field(default_factory=list)
    _expected: tuple[Tensor, Tensor] | None = None
    """Rows (R, 1) of the micro-batch, and positions (P,), to keep."""
    _handles: list[Any] = field(default_factory=list)

    def __enter__(self) -> ActivationTap:
        modules = dict(self.decoder.named_modules())
        for site in self.sites:
            # The head is not called where the loss works in chunks: its output is formed for the kept samples alone,
            # from the final norm's.
            module = modules["model.norm" if site.kind == "head" else llama_module(site)]
            keep = self._keeper(site)
            self._handles.append(
                module.register_forward_pre_hook(lambda _module, args, keep=keep: keep(args[0]))
                if site.is_input
                else module.register_forward_hook(lambda _module, _args, output, keep=keep: keep(output))
            )
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for handle in self._handles:
            handle.remove()

    def expect(self, first_row: int, n_rows: int, device: torch.device) -> None:
        """Announce a micro-batch that holds rows `first_row` to `first_row + n_rows` of the global batch."""
        local = [row - first_row for row in self.samples.rows if first_row <= row < first_row + n_rows]
        rows_R1 = torch.tensor(local, dtype=torch.long, device=device)[:, None]
        self._expected = rows_R1, torch.tensor(self.samples.positions, dtype=torch.long, device=device)

    def note_losses(self, each_BT: Tensor) -> None:
        """Keep the mean token loss of each row of a micro-batch, kept rows or not."""
        self.row_losses.append(each_BT.mean(1))

    def _keeper(self, site: Site) -> Callable[[Tensor], None]:
        def keep(activation: Tensor) -> None:
            assert self._expected is not None, "a pass that was not announced"
            rows_R1, positions_P = self._expected
            if not len(rows_R1) or self.decoder.model.recomputing:  # type: ignore[union-attr]
                return
            kept_RPF = activation.detach()[rows_R1, positions_P]
            if site.kind == "head":
                kept_RPF = F.linear(kept_RPF, self.decoder.lm_head.weight.detach())  # type: ignore[union-attr,operator]
            self.kept.setdefault(site, []).append(kept_RPF)

        return keep

    def gathered(self, engine: Engine, dtype: torch.dtype) -> dict[str, Tensor]:
        """Name → (n_samples, F) on the host, on rank 0; empty elsewhere. A collective."""
        result: dict[str, Tensor] = {}
        for site in self.sites:
            parts = self.kept.get(site, [])
            mine_RPF = torch.cat(parts) if parts else None
            all_RPF = _gather_rows(engine, mine_RPF)
            if engine.is_rank_zero and all_RPF is not None:
                result[activation_tensor(site)] = to_host(all_RPF.flatten(0, 1), dtype)
        if self.per_row_loss:
            mine_B11 = torch.cat(self.row_losses)[:, None, None] if self.row_losses else None
            all_B11 = _gather_rows(engine, mine_B11)
            if engine.is_rank_zero and all_B11 is not None:
                result[ROW_LOSS] = to_host(all_B11.flatten(), torch.float32)
        return result


def _gather_rows(engine: Engine, mine_RPF: Tensor | None) -> Tensor | None:
    """Concatenate the processes' rows in order; None where none has any.

    Counts may differ, so they are sent first and the parts padded.
    """
    if engine.world_size == 1:
        return mine_RPF
    none = torch.zeros(3, dtype=torch.long, device=engine.device)
    shape = none if mine_RPF is None else torch.tensor(mine_RPF.shape, device=engine.device)
    shapes = cast("Tensor", engine.fabric.all_gather(shape))
    padded = torch.zeros(*shapes.amax(0).tolist(), device=engine.device)
    if mine_RPF is not None:
        padded[: len(mine_RPF)] = mine_RPF
    everyone = engine.fabric.all_gather(padded)
    rows = [everyone[rank][:count] for rank, (count, _, _) in enumerate(shapes.tolist())]
    return torch.cat(rows) if padded.numel() else None


def gradients(engine: Engine, sites: list[Site], dtype: torch.dtype) -> dict[str, Tensor]:
    """Name → gradient of each site's weight on the host, on rank 0; empty elsewhere.

    Where parameters are sharded this is a collective. Call it after the last backward pass of the step, unscaled and
    before clipping: what it reads is then the gradient of the mean token loss over the global batch.
    """
    parameters = dict(engine.decoder.named_parameters())
    result: dict[str, Tensor] = {}
    for site in sites:
        if not site.has_weight:
            continue
        grad = parameters[_parameter_name(site, parameters)].grad
        assert grad is not None, f"no gradient at {site}"
        full = whole(grad)
        if engine.is_rank_zero:
            result[gradient_tensor(site)] = to_host(full, dtype)
    return result


def moments(engine: Engine, sites: list[Site]) -> dict[str, Tensor]:
    """What the optimizer keeps of the sites' weights, as ``<its name>/<site>``; nothing before an update.

    AdamW keeps `exp_avg` and `exp_avg_sq`; Muon and SGD `momentum_buffer`; Adafactor `row_var`, (out, 1), and
    `col_var`, (1, in), of a matrix, `variance` of a vector. Where parameters are sharded this is a collective.
    """
    parameters = dict(engine.decoder.named_parameters())
    result: dict[str, Tensor] = {}
    for site in sites:
        if not site.has_weight:
            continue
        state = engine.optimizer.state.get(parameters[_parameter_name(site, parameters)], {})
        for name in MOMENTS:
            if name in state:
                full = whole(state[name])
                if engine.is_rank_zero:
                    result[f"{name}/{site}"] = to_host(full, torch.float32)
    return result


def _parameter_name(site: Site, parameters: dict[str, nn.Parameter]) -> str:
    name = llama_parameter(site)
    return name if name in parameters else "model.embed_tokens.weight"  # a tied head has no parameter of its own


def to_host(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A contiguous copy on the CPU that later updates do not touch."""
    return tensor.detach().to(device="cpu", dtype=dtype, copy=True).contiguous()


def captured_sites(config: CapturesConfig, n_layers: int) -> list[Site]:
    """The sites a configuration captures, in the order of computation."""
    return expand(config.sites, n_layers)


def storage_dtype(config: CapturesConfig) -> torch.dtype:
    """Number format of stored captures."""
    return torch.bfloat16 if config.dtype == "bfloat16" else torch.float32
