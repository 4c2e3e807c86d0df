"""Training runs as functions for `worlds.launch`, and how two of them are compared."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from functools import partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from pico_schema import documents, layout
from pico_train.checkpoint import metrics_log
from pico_train.config import RunConfig


def train_until(
    config: RunConfig,
    stop_at: int | None = None,
    number: int = signal.SIGTERM,
    rank: int | None = None,
) -> int:
    """Train; with `stop_at`, a signal comes while the step before it is being finished. Returns the exit code.

    With `rank`, the signal comes to that process only.
    """
    from pico_train.errors import InterruptedRun
    from pico_train.reporter import Reporter
    from pico_train.run import train

    if compiler := os.environ.get("PICO_TEST_COMPILER"):
        import torch

        torch.nn.Module.compile = partialmethod(torch.nn.Module.compile, backend=compiler)  # type: ignore[assignment]

    class Stopper(Reporter):
        def step(self, row: Mapping[str, Any], **_: bool) -> None:
            mine = rank is None or os.environ.get("RANK") == str(rank)
            if stop_at is not None and row["step"] == stop_at - 1 and mine:
                os.kill(os.getpid(), number)

    try:
        train(config, reporter=Stopper())
    except InterruptedRun as stopped:
        return stopped.exit_code
    return 0


DROPOUT = 0.1


def train_with_dropout(config: RunConfig, stop_at: int | None = None) -> int:
    """`train_until`, with dropout after the embedding: something in the model that consumes random numbers."""
    import torch

    from pico_train import run

    set_up = run.set_up

    def with_dropout(*args: Any) -> Any:
        engine = set_up(*args)
        engine.decoder.model.embed_tokens.register_forward_hook(lambda _m, _a, out: torch.dropout(out, DROPOUT, True))
        return engine

    run.set_up = with_dropout
    return train_until(config, stop_at)


def train_with_exact_directions(config: RunConfig, stop_at: int | None = None) -> int:
    """`train_until`, with the directions of Muon in float32: in bfloat16 gradients that differ in their last bit, as
    they do between processors and where processes add them up, give some of them another direction altogether."""
    import torch

    torch.Tensor.bfloat16 = torch.Tensor.float  # type: ignore[method-assign]
    return train_until(config, stop_at)


def train_in_float16(config: RunConfig, stop_at: int | None = None, *, scale: float = 2.0**40) -> int:
    """`train_until` under 16-mixed on a CPU, which the command refuses: the scale doubles after four good steps."""
    import torch
    from lightning_fabric import Fabric
    from lightning_fabric.plugins import MixedPrecision

    from pico_train import run

    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=4)
    precision = MixedPrecision("16-mixed", "cpu", scaler=scaler)
    run.build_fabric = lambda _: Fabric(accelerator="cpu", devices=1, plugins=precision)
    return train_until(config, stop_at)


def train_until_and_insist(config: RunConfig, stop_at: int) -> int:
    """`train_until`, and a second signal in the middle of the save that the first one asked for."""
    import threading
    import time

    from pico_train.checkpoint.signals import SAME_REQUEST
    from pico_train.checkpoint.storage import Disk

    sync = Disk.fsync

    def insisting(self: Disk, handle: int) -> None:
        if threading.current_thread().name == f"checkpoint-{stop_at}":
            time.sleep(2 * SAME_REQUEST)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
        sync(self, handle)

    Disk.fsync = insisting  # type: ignore[method-assign]
    return train_until(config, stop_at)


def command_line(config: RunConfig) -> None:
    """`pico-train run` with this configuration, to the exit of the process."""
    import sys

    from pico_train.cli import app
    from pico_train.config import layers

    path = Path(config.out) / "config.yaml"
    path.write_text(layers.to_yaml(config), encoding="utf-8")
    sys.argv = ["pico-train", "run", str(path)]
    app.main()


def train_again(config: RunConfig, override: bool = False) -> str:
    """Train or resume; returns the class and text of the error it ends with, or nothing."""
    from pico_train.errors import PicoTrainError
    from pico_train.reporter import Reporter
    from pico_train.run import train

    try:
        train(config, override=override, reporter=Reporter())
    except PicoTrainError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def training_state(directory: Path) -> dict[str, Any]:
    """The training state of a checkpoint, tensors as lists."""
    import torch

    def plain(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return [str(value.dtype), value.tolist()]
        if isinstance(value, dict):
            return {str(key): plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    state: dict[str, Any] = plain(torch.load(directory / "training_state/state.ckpt", weights_only=True))
    return state


def what_a_step_holds(run_dir: Path, step: int, *, states: bool = True) -> dict[str, Any]:
    """Everything of a checkpoint that must not depend on how the run came there."""
    directory = run_dir / layout.checkpoint_dir(step)
    manifest = documents.read_checkpoint(directory).model_dump(mode="json", exclude={"created", "run_id", "run_name"})
    files = manifest.pop("files")
    content = {"manifest": manifest, "files": {n: e for n, e in files.items() if layout.TRAINING_STATE not in n}}
    if states:
        content["training state"] = training_state(directory)
    return content


def logged(run_dir: Path) -> list[dict[str, Any]]:
    """The lines of the log without what depends on the clock and the machine."""
    own = ("tokens_per_second", "memory_bytes", "mfu")
    return [
        {name: value for name, value in row.items() if name not in own and not name.startswith("seconds/")}
        for row in metrics_log.read(run_dir / layout.METRICS_LOG)
    ]


def weights(run_dir: Path, step: int) -> dict[str, np.ndarray]:
    """Name → array of a checkpoint's weights."""
    return safetensors.numpy.load_file(run_dir / layout.checkpoint_dir(step) / layout.WEIGHTS)


def sealed(run_dir: Path) -> list[int]:
    """Steps in the run's index."""
    return [entry.step for entry in documents.read_run(run_dir).checkpoints]


def as_text(content: Any) -> str:
    """JSON, for comparisons that show what differs."""
    return json.dumps(content, indent=0, sort_keys=True, default=str)


def count_forward_passes(config: RunConfig) -> int:
    """Train; returns how often the decoder was called."""
    from pico_train.model.decoder import Decoder

    count = 0
    forward = Decoder.forward

    def counted(self: Decoder, *args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        return forward(self, *args, **kwargs)

    Decoder.forward = counted  # type: ignore[method-assign]
    assert train_until(config) == 0
    return count


def count_writers_at_each_copy(config: RunConfig) -> list[int]:
    """Train on a slow disk; returns how many checkpoints were being written whenever one was copied off the model."""
    import threading
    import time

    from pico_train.checkpoint import state
    from pico_train.checkpoint.storage import Disk

    sync, copy = Disk.fsync, state.snapshot_weights
    found = []

    def slow(self: Disk, handle: int) -> None:
        time.sleep(0.05)
        sync(self, handle)

    def watched(model: Any) -> Any:
        found.append(sum(thread.name.startswith("checkpoint-") for thread in threading.enumerate()))
        return copy(model)

    Disk.fsync = slow  # type: ignore[method-assign]
    state.snapshot_weights = watched
    assert train_until(config) == 0
    return found
