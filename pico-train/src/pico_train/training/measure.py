"""How long an update takes on this machine: a few real steps on made-up rows. Nothing is written."""

from __future__ import annotations

import time
from statistics import median

import torch

from pico_train.config import RunConfig
from pico_train.training.engine import build_fabric, set_up
from pico_train.training.forward_backward import accumulate
from pico_train.training.loop import update_weights

WARM_UP = 2
"""Steps that are not counted: compilation, allocation."""


def seconds_per_step(config: RunConfig, *, devices: int = 1, steps: int = 3) -> float:
    """Seconds of one update: forward, backward, clipping, optimizer.

    One device is timed. Where the run has several, it does its share of the batch; what they would tell each other is
    not in it.

    Args:
        config: The run.
        devices: Devices in all that the run is to have.
        steps: How many updates are timed; the median counts.
    """
    return median(step_times(config, devices=devices, steps=steps))


def step_times(config: RunConfig, *, devices: int = 1, steps: int = 3) -> list[float]:
    """Seconds of each update that `seconds_per_step` is the median of."""
    alone = config.distributed.model_copy(update={"devices": 1, "num_nodes": 1, "strategy": "auto"})
    config = config.model_copy(update={"distributed": alone})
    fabric = build_fabric(config)
    fabric.launch()
    engine = set_up(fabric, config, config.spec)
    share = max(1, config.training.batch_size // devices)
    tokens = share * config.data.seq_len
    generator = torch.Generator().manual_seed(0)
    size = (share, config.data.seq_len + 1)
    rows = torch.randint(config.model.vocab_size, size, generator=generator).to(engine.device)
    times = []
    for step in range(WARM_UP + steps):
        started = time.perf_counter()
        accumulate(
            engine,
            rows,
            micro_batch=min(config.training.micro_batch_size or share, share),
            chunk=config.training.logits_at_once(tokens, device=engine.device.type),
        )
        engine.unscale_gradients()
        update_weights(engine, config, step, engine.gradient_norm(), skip=False, overflow=False)
        engine.optimizer.zero_grad()
        if engine.device.type == "cuda":
            torch.cuda.synchronize(engine.device)
        times.append(time.perf_counter() - started)
    return times[WARM_UP:]
