"""What is made to go wrong in a training process, and what is read of a run; for `worlds.launch`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from pico_schema import layout
from pico_train.config import RunConfig

QUIET = {
    "checkpoint__weights": {"early": None, "every": None},
    "checkpoint__training_state": {"early": None, "every": None},
    "checkpoint__captures": {"early": None, "every": None, "last": False},
    "evaluation__cadence": {"early": None, "every": None},
}
"""One checkpoint, at the end."""


def poison(config: RunConfig, bad_steps: tuple[int, ...], what: str = "gradient", rank: int | None = None) -> str:
    """Train with a loss or a gradient that is NaN at some steps (on one process only, with `rank`); how it ends."""
    import os

    from pico_train.errors import PicoTrainError
    from pico_train.reporter import Reporter
    from pico_train.run import train
    from pico_train.training import forward_backward, loop

    accumulate, loss_of, begun = loop.accumulate, forward_backward.next_token_loss, [-1]

    def bad() -> bool:
        return begun[0] in bad_steps and (rank is None or os.environ.get("RANK") == str(rank))

    def accumulating(engine: Any, *args: Any, **kwargs: Any) -> Any:
        begun[0] += 1
        loss = accumulate(engine, *args, **kwargs)
        if what == "gradient" and bad():
            engine.decoder.model.norm.weight.grad.fill_(float("nan"))
        return loss

    def losing(*args: Any, **kwargs: Any) -> Any:
        return loss_of(*args, **kwargs) * (float("nan") if what == "loss" and bad() else 1.0)

    loop.accumulate, forward_backward.next_token_loss = accumulating, losing
    try:
        train(config, reporter=Reporter())
    except PicoTrainError as error:
        return f"{error.exit_code} {error}"
    return ""


def fail_on_rank_one(config: RunConfig) -> None:
    """Train; the second process fails in the third step."""
    import os

    from pico_train.reporter import Reporter
    from pico_train.run import train
    from pico_train.training import loop

    accumulate, calls = loop.accumulate, [0]

    def failing(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == 3 and os.environ["RANK"] == "1":
            raise RuntimeError("the second process has no more memory")
        return accumulate(*args, **kwargs)

    loop.accumulate = failing
    train(config, reporter=Reporter())


def losses(run_dir: Path) -> list[float]:
    """The loss of every step."""
    lines = (run_dir / layout.METRICS_LOG).read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def column(run_dir: Path, name: str) -> list[Any]:
    """A column of the log; None where a line has no such value."""
    return [json.loads(line).get(name) for line in (run_dir / layout.METRICS_LOG).read_text().splitlines()]


def weights(run_dir: Path, step: int) -> dict[str, np.ndarray]:
    """Name → array of a checkpoint's weights."""
    return safetensors.numpy.load_file(run_dir / layout.checkpoint_dir(step) / layout.WEIGHTS)
