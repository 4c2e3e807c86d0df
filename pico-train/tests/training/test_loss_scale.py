"""float16 with a loss scaler: overflow lowers the scale and leaves an update out; it is not what stops a run."""

from __future__ import annotations

import numpy as np
import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins import MixedPrecision

from pico_train.checkpoint.consumed import Consumed
from pico_train.config import layers
from pico_train.data.loader import Batch
from pico_train.training import engine, loop

NEVER = [f"{section}.{key}" for section in ("checkpoint.weights", "checkpoint.training_state", "checkpoint.captures",
         "evaluation.cadence") for key in ("early=null", "every=null", "last=false")]  # fmt: skip
SMALL = ["model.d_model=16", "model.d_ff=32", "model.n_layers=1", "model.vocab_size=64", "data.seq_len=8"]


def test_an_overflow_halves_the_scale_until_updates_are_made() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    fabric = Fabric(accelerator="cpu", devices=1, plugins=MixedPrecision("16-mixed", "cpu", scaler=scaler))
    fabric.launch()
    steps = ["training.max_steps=30", "training.schedule.warmup_steps=2", "training.batch_size=4"]
    config = layers.load_config(set=[*SMALL, *steps, *NEVER])
    made = engine.set_up(fabric, config, config.spec)
    rows = np.random.default_rng(0).integers(0, 64, (4, 9)).astype(np.int32)
    tensor = torch.from_numpy(rows).long()
    batches = [Batch(step, tensor, np.arange(4), None, rows, Consumed()) for step in range(31)]  # type: ignore[arg-type]
    seen: list[loop.Measured] = []
    loop.fit(made, config, batches, tensor, record=seen.append, save=lambda _: None)
    skipped = [measured.step for measured in seen if measured.skipped]
    assert skipped == list(range(len(skipped))) and 5 < len(skipped) < 30
    assert scaler.get_scale() == 2.0 ** (40 - len(skipped))
    assert seen[0].loss == seen[len(skipped)].loss, "the weights were left alone"
    assert seen[-1].loss is not None and seen[0].loss is not None and seen[-1].loss < seen[0].loss
