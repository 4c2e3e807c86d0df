"""What probes of curvature will take, measured on one batch before they begin, and whether that was agreed to."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pico_analyze.counting import counted
from pico_analyze.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from pico_analyze.models.beginning import Told
    from pico_analyze.models.behave_settings import BehaveSettings

_TRIES = 4
PRODUCT = 3.0
"""Gradients that a product of the Hessian with a vector costs: a pass, its gradient, and the gradient of that."""


@dataclass(frozen=True)
class Cost:
    """What the costly probes of some steps take."""

    seconds: float
    gigabytes: float
    """Of memory, beside the model and a gradient."""
    text: str

    @classmethod
    def of(cls, settings: BehaveSettings, left: Mapping[int, Sequence[str]], model: Any, ids: np.ndarray) -> Cost:
        """The cost, from the time of a gradient of one batch of rows.

        Args:
            settings: What is probed.
            left: The costly probes of each step.
            model: One of the models.
            ids: All rows, (N, T + 1).
        """
        once = _gradient_seconds(model, ids[: settings.batch_size], settings.device)
        batches = math.ceil(len(ids) / settings.batch_size)
        size = sum(weight.numel() for weight in model.parameters())
        seconds = memory = 0.0
        for probe in dict.fromkeys(probe for probes in left.values() for probe in probes):
            how = settings.probe_params[probe]
            steps = sum(probe in probes for probes in left.values())
            if probe == "curvature":
                seconds += steps * (int(how["iterations"]) + int(how["vectors"])) * PRODUCT * batches * once
                memory = max(memory, (int(how["iterations"]) + 4) * size * 4 / 2**30)
            else:
                seconds += steps * int(how["chains"]) * (int(how["burn_in"]) + int(how["draws"])) * once
                memory = max(memory, 2 * size * 4 / 2**30)
        seconds /= min(settings.jobs, len(left))
        named = " and ".join(dict.fromkeys(probe for probes in left.values() for probe in probes))
        text = (
            f"{named} at {counted(len(left), 'step')} take about {_time(seconds)} on {settings.device} (a gradient of "
            f"{counted(min(len(ids), settings.batch_size), 'row')}: {once:.2g} s) and {memory:.2g} GB beside the model"
        )
        return cls(seconds, memory, text)


def agreed(settings: BehaveSettings, cost: Cost, told: Told) -> None:
    """Say the cost; go on where it was agreed to.

    Raises:
        UsageError: it was not, or it is beyond the budget.
    """
    told(cost.text)
    minutes = cost.seconds / 60
    if settings.yes or (settings.budget is not None and minutes <= settings.budget):
        return
    enough = f"--budget {math.ceil(minutes)}"
    if settings.budget is not None:
        raise UsageError(f"{cost.text}: more than the budget of {settings.budget:g} min: give {enough}, or --yes")
    raise UsageError(f"{cost.text}: --yes begins it, and so does {enough} (minutes that it may take)")


def _time(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


def _gradient_seconds(model: Any, ids: np.ndarray, device: str) -> float:
    """Seconds that a gradient takes: the shortest of some, since the first also allocates and others may wait."""
    from pico_analyze.models.curvature import batches_of, mean_loss

    (batch,) = batches_of(ids, len(ids), device)
    taken = math.inf
    for _ in range(_TRIES):
        begun = time.perf_counter()
        loss = mean_loss(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        float(loss.detach())  # waits for an accelerator
        taken = min(taken, time.perf_counter() - begun)
    model.zero_grad(set_to_none=True)
    return taken
