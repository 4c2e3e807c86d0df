"""From what a step measured to what is logged: throughput, model FLOPs utilisation, memory, time per phase."""

from __future__ import annotations

import resource
import sys
import time
from typing import Any

import torch

from pico_train.config import RunConfig
from pico_train.training.engine import Engine
from pico_train.training.peak_flops import peak_flops
from pico_train.training.step import Measured


class Meter:
    """Averages speed between logged steps; captures and checkpoints are left out of the training speed.

    Args:
        engine: Whose devices are used.
        config: The run.
    """

    def __init__(self, engine: Engine, config: RunConfig) -> None:
        self._config = config
        self._device = engine.device
        self._flops_per_token = engine.decoder.spec.flops_per_token(config.data.seq_len)
        peak = peak_flops(engine.device, config.training.precision)
        self._peak = peak * engine.world_size if peak else None
        self._seconds: dict[str, float] = {}
        self._steps = 0
        self.training_seconds = 0.0
        """Time spent in data, computation and update since the meter was made."""
        self.training_tokens = 0
        """Tokens trained on since the meter was made."""
        self.started = time.perf_counter()

    def add(self, measured: Measured) -> None:
        """Count one step."""
        for phase, seconds in measured.seconds.items():
            self._seconds[phase] = self._seconds.get(phase, 0.0) + seconds
        self._steps += 1
        self.training_seconds += _training(measured.seconds)
        self.training_tokens += self._config.tokens_per_step

    def row(self, measured: Measured) -> dict[str, Any]:
        """The line of metrics of this step: its own loss, rate and norm; speed and times since the line before."""
        spent = _training(self._seconds)
        speed = self._steps * self._config.tokens_per_step / spent if spent else None
        row: dict[str, Any] = {
            "step": measured.step,
            "tokens_seen": measured.tokens_seen,
            "loss": measured.loss,
            "val_loss": measured.val_loss,
            "lr": measured.lr,
            "grad_norm": measured.grad_norm,
            "tokens_per_second": speed,
            "mfu": speed * self._flops_per_token / self._peak if speed and self._peak else None,
            "memory_bytes": memory_bytes(self._device),
            **{f"seconds/{phase}": seconds / self._steps for phase, seconds in self._seconds.items()},
            "skipped": measured.skipped or None,
        }
        self._seconds, self._steps = {}, 0
        return {name: value for name, value in row.items() if value is not None}


def _training(seconds: dict[str, float]) -> float:
    return sum(seconds.get(phase, 0.0) for phase in ("data", "compute", "update"))


def memory_bytes(device: torch.device) -> int:
    """Peak memory so far: allocated on the GPU, or resident on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
