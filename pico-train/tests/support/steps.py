"""The loop on one small model in this process: what each step recorded and saved, and what came of the weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision

from pico_train.checkpoint.consumed import Consumed
from pico_train.checkpoint.signals import Received
from pico_train.config import RunConfig, layers
from pico_train.data.loader import Batch
from pico_train.evaluation.along import Evaluator
from pico_train.evaluation.perplexity import DocumentSet
from pico_train.model.decoder import Decoder
from pico_train.training import engine, loop
from pico_train.training.step import Measured, Snapshot

_NEVER = [f"{section}.{key}" for section in ("checkpoint.weights", "checkpoint.training_state", "checkpoint.captures",
          "evaluation.cadence") for key in ("early=null", "every=null", "last=false")]  # fmt: skip
_SMALL = ["model.d_model=16", "model.d_ff=32", "model.n_layers=1", "model.vocab_size=64", "data.seq_len=8"]
_COURSE = ["training.batch_size=4", "training.schedule.warmup_steps=1", "captures.sites=[attn.v]"]


def settings(steps: int, *changes: str) -> RunConfig:
    """A configuration of `steps` updates in which nothing is due but what `changes` say."""
    return layers.load_config(set=[*_SMALL, *_COURSE, *_NEVER, f"training.max_steps={steps}", *changes])


def batch(step: int) -> Batch:
    """Four rows of nine ids, others at each step."""
    rows = np.random.default_rng(step).integers(0, 64, (4, 9)).astype(np.int32)
    consumed = Consumed(step, 4 * step, 32 * step)
    return Batch(step, torch.from_numpy(rows).long(), np.arange(4), None, rows, consumed)


VALIDATION = torch.from_numpy(np.random.default_rng(99).integers(0, 64, (3, 9))).long()


def copied(decoder: Decoder) -> dict[str, torch.Tensor]:
    """The weights by name."""
    return {name: weight.detach().clone() for name, weight in decoder.named_parameters()}


@dataclass
class Happened:
    """What a loop did."""

    config: RunConfig
    decoder: Decoder
    weights: list[dict[str, torch.Tensor]] = field(default_factory=list)
    """At the beginning, and whenever a step was recorded."""
    events: list[tuple[str, int]] = field(default_factory=list)
    """("save" or "record", step), in order."""
    seen: list[Measured] = field(default_factory=list)
    saved: list[Snapshot] = field(default_factory=list)
    outcome: loop.Outcome | None = None


def fit(
    config: RunConfig,
    steps: Sequence[int] | None = None,
    *,
    signals: dict[int, Received] | None = None,
    save: Callable[[Snapshot], None] = lambda _: None,
    scaler: torch.amp.GradScaler | None = None,
    **options: Any,
) -> Happened:
    """Run the loop over the batches of `steps` (all, by default); `signals` are there when a step begins.

    With a `scaler`, in float16.
    """
    plugin = MixedPrecision("16-mixed", "cpu", scaler=scaler) if scaler is not None else None
    fabric = Fabric(accelerator="cpu", devices=1, plugins=plugin)
    fabric.launch()
    made = engine.set_up(fabric, config, config.spec)
    happened = Happened(config, made.decoder, [copied(made.decoder)])
    held_out = DocumentSet("validation", list(VALIDATION.numpy()), [""] * len(VALIDATION), None, rows=True)
    options.setdefault("evaluate", Evaluator(made, config, [held_out]))
    now = [-1]

    def batches() -> Any:
        for step in range(config.training.max_steps + 1) if steps is None else steps:
            now[0] = step
            yield batch(step)

    def record(measured: Measured) -> None:
        happened.seen.append(measured)
        happened.weights.append(copied(made.decoder))
        happened.events.append(("record", measured.step))

    def keep(snapshot: Snapshot) -> None:
        happened.saved.append(snapshot)
        happened.events.append(("save", snapshot.batch.step))
        save(snapshot)

    if signals is not None:
        options["stop_signal"] = lambda: signals.get(now[0])
    happened.outcome = loop.fit(made, config, batches(), VALIDATION, record=record, save=keep, **options)
    return happened
