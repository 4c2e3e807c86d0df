"""What several processes do together in test_state.py."""

from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp

from pico_schema import layout
from pico_train.config import RunConfig


def fabric_loads_the_sharded_state(config: RunConfig, checkpoint: Path) -> list[bool]:
    """Fabric's own loading of a sharded state, against this project's."""
    from pico_train.checkpoint import state
    from pico_train.training.engine import build_fabric, set_up

    fabric = build_fabric(config)
    fabric.launch()
    engine, other = set_up(fabric, config, config.spec), set_up(fabric, config, config.spec)
    state.load_weights(engine.decoder, checkpoint)
    ours = state.load_training_state(checkpoint, engine.decoder, engine.optimizer, rank=engine.rank)
    wanted: dict[str, Any] = {"model": other.decoder, "optimizer": other.optimizer, "step": None, "scheduler": None}
    fabric.load(checkpoint / layout.TRAINING_STATE, wanted, weights_only=True)
    pairs = zip(engine.decoder.parameters(), other.decoder.parameters(), strict=True)
    same = []
    for mine, theirs in pairs:
        same.append(torch.equal(mine.to_local(), theirs.to_local()))
        for name in ("exp_avg", "exp_avg_sq"):
            first, second = engine.optimizer.state[mine][name], other.optimizer.state[theirs][name]
            same.append(torch.equal(first.to_local(), second.to_local()))
    return [*same, wanted["step"] == ours["step"], wanted["scheduler"] == ours["scheduler"]]


def train_with_a_full_disk_on_the_second(config: RunConfig) -> str:
    """Train; the second process cannot write its shards from the second checkpoint on."""
    from support.training_runs import train_again

    count = 0
    write = dcp.FileSystemWriter.write_data

    def refuse(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count > 1 and os.environ["RANK"] == "1":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, *args, **kwargs)

    dcp.FileSystemWriter.write_data = refuse
    return train_again(config)


class Trap:
    """Unpickled, it would leave a file behind."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (self.path,))


def trap(path: Path) -> bytes:
    """A pickle that makes the directory `path` when it is read."""
    return pickle.dumps(Trap(str(path)))
