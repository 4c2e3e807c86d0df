"""How much the gradient of a batch varies with its rows: norms of the gradients of equal parts of one batch.

The parts are taken at the weights of one step, so that nothing but the rows differs. What is kept are squared norms
(`pico_schema.layout.noise_tensor`), of which the noise scale follows (McCandlish et al. 2018, arXiv:1812.06162,
appendix A.1); which parts there are depends neither on the number of processes nor on micro-batches.

Letters: b rows of this process of T + 1 ids, n parts, G groups of parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from pico_schema.layout import noise_tensor
from pico_schema.sites import WEIGHTED_KINDS, WHOLE_MODEL, block_name, expand, llama_parameter
from pico_train.training.engine import Engine
from pico_train.training.forward_backward import Share, accumulate, eagerly, unscaled


def groups(decoder: nn.Module, n_layers: int) -> dict[str, list[str]]:
    """Parameters by what their noise is told of: each site with a weight of its own, each block, the model."""
    own = [name for name, _ in decoder.named_parameters()]
    found = {str(site): [llama_parameter(site)] for site in expand(WEIGHTED_KINDS, n_layers)}
    found = {site: names for site, names in found.items() if names[0] in own}  # a tied head has none of its own
    for layer in range(n_layers):
        found[block_name(layer)] = [name for name in own if name.startswith(f"model.layers.{layer}.")]
    return found | {WHOLE_MODEL: own}


def gradient_noise(engine: Engine, rows: Tensor, n_parts: int, *, micro_batch: int, chunk: int) -> dict[str, Tensor]:
    """Name in a captures file → (n + 1, 3) float64, on rank 0; empty elsewhere. A collective.

    Call it with the batch's gradient in place, unscaled and before clipping; it is there again afterwards, bit for bit.
    It takes a forward and a backward pass over the batch, and room for two gradients more.

    Args:
        engine: Model and processes.
        rows: (b, T + 1) this process's rows of the batch, on the device; of all processes in the order of ranks.
        n_parts: How many parts; it divides the rows of the batch.
        micro_batch: Rows per forward pass.
        chunk: Tokens whose logits are held at once.
    """
    parameters = dict(engine.decoder.named_parameters())
    of_batch = {name: p.grad.detach().clone() for name, p in parameters.items() if p.grad is not None}
    n_rows = rows.shape[0] * engine.world_size
    lines = []
    for part in range(n_parts):
        _fill(engine, rows, part, n_parts, micro_batch=micro_batch, chunk=chunk)
        lines.append(_squares(engine, parameters, of_batch, n_rows // n_parts))
    for name, parameter in parameters.items():
        parameter.grad = of_batch.get(name)
    lines.append(_squares(engine, parameters, of_batch, n_rows))
    if not engine.is_rank_zero:
        return {}
    found = groups(engine.decoder, engine.decoder.spec.n_layers)
    return {
        noise_tensor(group): torch.stack([_of_group(line, rows_of, names) for rows_of, line in lines])
        for group, names in found.items()
    }


def _fill(engine: Engine, rows: Tensor, part: int, n_parts: int, *, micro_batch: int, chunk: int) -> None:
    """Leave the gradient of the mean token loss over one part of the batch in the gradients."""
    mine = rows.shape[0]
    counts = [
        len(range((part - rank * mine) % n_parts, mine, n_parts))  # rows whose number in the batch is `part` modulo n
        for rank in range(engine.world_size)
    ]
    taken = rows[(part - engine.rank * mine) % n_parts :: n_parts]
    share = Share(sum(counts[: engine.rank]), counts[engine.rank], max(counts), sum(counts))
    factor = 1.0
    while True:
        engine.optimizer.zero_grad(set_to_none=True)
        with eagerly(engine.decoder):
            given = taken if len(taken) else rows[:1]
            accumulate(engine, given, micro_batch=micro_batch, chunk=chunk, share=share, factor=factor)
        if not unscaled(engine, factor):
            return
        factor /= 2  # float16 overflowed under this loss scale


def _squares(
    engine: Engine, parameters: dict[str, nn.Parameter], of_batch: dict[str, Tensor], n_rows: int
) -> tuple[int, dict[str, Tensor]]:
    """The rows that a gradient is of, and by parameter ‖g‖² and ‖g − G‖², (2,) float64 on the host."""
    names = [name for name, parameter in parameters.items() if parameter.grad is not None]
    wide = torch.float32 if engine.device.type == "mps" else torch.float64  # which that device does not have
    each = torch.zeros(len(names), 2, dtype=wide, device=engine.device)
    for place, name in enumerate(names):
        gradient, whole = _here(parameters[name].grad), _here(of_batch[name])
        each[place, 0] = torch.linalg.vector_norm(gradient, dtype=wide) ** 2
        each[place, 1] = torch.linalg.vector_norm(gradient - whole, dtype=wide) ** 2
    if any(isinstance(of_batch[name], DTensor) for name in names):
        each = engine.sum_over_ranks(each)
    return n_rows, dict(zip(names, each.cpu().double(), strict=True))


def _here(gradient: Tensor | None) -> Tensor:
    """What of a gradient is on this process: all of it, or its shard."""
    assert gradient is not None
    return gradient.to_local() if isinstance(gradient, DTensor) else gradient


def _of_group(line: dict[str, Tensor], n_rows: int, names: list[str]) -> Tensor:
    total = torch.stack([line[name] for name in names if name in line]).sum(0)
    return torch.cat([torch.tensor([float(n_rows)], dtype=torch.float64), total])
