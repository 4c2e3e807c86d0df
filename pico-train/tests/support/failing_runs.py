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


def break_update(
    config: RunConfig, bad_step: int, where: str = "weight", *, stopping: bool = False, rank: int | None = None
) -> str:
    """Train with an update that leaves a value that is not finite; how the run ends.

    Args:
        config: The run.
        bad_step: The update of this step is the bad one.
        where: `weight`: of the final norm, so that the next loss is NaN. `unused`: the embedding of the last token,
            which no text should have, so that losses stay finite. `state`: AdamW's second moment, so that weights and
            losses stay finite.
        stopping: A signal comes right after the update, before the next loss is known.
        rank: Break it on this process only, by default on every one.
    """
    import os
    import signal

    import torch

    from pico_train.errors import PicoTrainError
    from pico_train.reporter import Reporter
    from pico_train.run import train
    from pico_train.training import loop

    update = loop.update_weights

    def breaking(engine: Any, config: RunConfig, step: int, *args: Any, **kwargs: Any) -> float:
        lr = update(engine, config, step, *args, **kwargs)
        if step == bad_step and rank in (None, engine.rank):
            model = engine.decoder.model
            if where == "state":
                moment = engine.optimizer.state[model.layers[0].mlp.up_proj.weight]["exp_avg_sq"]
                getattr(moment, "_local_tensor", moment)[0, 0] = float("inf")
            else:
                with torch.no_grad():
                    broken = model.norm.weight if where == "weight" else model.embed_tokens.weight
                    broken[-1] = float("nan")
        return lr

    class Stopper(Reporter):
        def step(self, row: Any, **_: bool) -> None:
            if stopping and row["step"] == bad_step:
                os.kill(os.getpid(), signal.SIGTERM)

    loop.update_weights = breaking
    try:
        train(config, reporter=Stopper())
    except PicoTrainError as error:
        return f"{error.exit_code} {error}"
    return ""


def killed_on_rank_one(config: RunConfig, when: str, patience: float = 60.0) -> str:
    """Train; the second process is killed. How it ends for the first: exit code and sentence.

    Args:
        config: The run.
        when: `joined`: as soon as both have found each other. `step`: in the third step.
        patience: Seconds that they wait for each other at the start.
    """
    import os
    import signal
    from datetime import timedelta

    from pico_train import run
    from pico_train.errors import PicoTrainError
    from pico_train.reporter import Reporter
    from pico_train.training import launch, loop

    launch.JOINING = timedelta(seconds=patience)
    on_rank_zero, accumulate, steps = run.on_rank_zero, loop.accumulate, [0]

    def end(now: bool) -> None:
        if now and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)

    def joined(*args: Any) -> Any:
        end(when == "joined")
        return on_rank_zero(*args)

    def step(*args: Any, **kwargs: Any) -> Any:
        steps[0] += 1
        end(when == "step" and steps[0] == 3)
        return accumulate(*args, **kwargs)

    run.on_rank_zero, loop.accumulate = joined, step
    try:
        run.train(config, reporter=Reporter())
    except PicoTrainError as error:
        return f"{error.exit_code} {error}"
    return ""


def killed_on_a_node(config: RunConfig, at: int, node: str) -> str:
    """Train; all processes of a node are killed when a step begins. How it ends for the others: code and sentence."""
    import os
    import signal

    from pico_train import run
    from pico_train.errors import PicoTrainError
    from pico_train.reporter import Reporter
    from pico_train.training import loop

    accumulate, steps = loop.accumulate, [0]

    def step(*args: Any, **kwargs: Any) -> Any:
        steps[0] += 1
        if steps[0] == at and (os.environ.get("GROUP_RANK") or os.environ.get("SLURM_NODEID")) == node:
            os.kill(os.getpid(), signal.SIGKILL)
        return accumulate(*args, **kwargs)

    loop.accumulate = step
    try:
        run.train(config, reporter=Reporter())
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
