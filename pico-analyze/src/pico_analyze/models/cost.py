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
"""Steps that are measured of what will take many."""


@dataclass(frozen=True)
class Cost:
    """What the costly probes of some steps take."""

    seconds: float
    gigabytes: float
    """Of memory, beside the model and a gradient."""
    text: str

    @classmethod
    def of(cls, settings: BehaveSettings, left: Mapping[int, Sequence[str]], model: Any, ids: np.ndarray) -> Cost:
        """The cost, from the time of some steps of each probe on one batch of rows.

        Args:
            settings: What is probed.
            left: The costly probes of each step.
            model: One of the models.
            ids: All rows, (N, T + 1).
        """
        batch = ids[: settings.batch_size]
        batches = math.ceil(len(ids) / settings.batch_size)
        size = sum(weight.numel() for weight in model.parameters())
        rows = counted(len(batch), "row")
        seconds = memory = 0.0
        units = []
        for probe in dict.fromkeys(probe for probes in left.values() for probe in probes):
            how = settings.probe_params[probe]
            steps = sum(probe in probes for probes in left.values())
            if probe == "curvature":
                once = _product_seconds(model, batch, settings.device)
                seconds += steps * (int(how["iterations"]) + int(how["vectors"])) * batches * once
                memory = max(memory, (int(how["iterations"]) + 4) * size * 4 / 2**30)
                units.append(f"a product with the Hessian of {rows}: {once:.2g} s")
            else:
                once = _chain_step_seconds(model, batch, settings.device, how)
                seconds += steps * int(how["chains"]) * (int(how["burn_in"]) + int(how["draws"])) * once
                memory = max(memory, 2 * size * 4 / 2**30)
                units.append(f"a step of a chain with {rows}: {once:.2g} s")
        seconds /= min(settings.jobs, len(left))
        named = " and ".join(dict.fromkeys(probe for probes in left.values() for probe in probes))
        text = (
            f"{named} at {counted(len(left), 'step')} take about {_time(seconds)} on {settings.device} "
            f"({', '.join(units)}) and {memory:.2g} GB beside the model"
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


def _product_seconds(model: Any, ids: np.ndarray, device: str) -> float:
    """Seconds that a product of the Hessian of these rows with a vector takes, its share of all around it included."""
    from pico_analyze.models.curvature import batches_of, read_hessian

    batches = batches_of(ids, len(ids), device)
    read_hessian(model, batches, iterations=1, vectors=1, seed=0)  # the first also allocates
    begun = time.perf_counter()
    read_hessian(model, batches, iterations=_TRIES, vectors=_TRIES, seed=0)
    return (time.perf_counter() - begun) / (2 * _TRIES)


def _chain_step_seconds(model: Any, ids: np.ndarray, device: str, how: Mapping[str, Any]) -> float:
    """Seconds that a step of a chain takes: a gradient of these rows, and the noise."""
    from pico_analyze.models.curvature import batches_of, read_chains

    batches = batches_of(ids, len(ids), device)
    some = {"chains": 1, "draws": _TRIES, "burn_in": 0, "lr": how["lr"], "localization": how["localization"]}
    read_chains(model, batches, n_beta=2.0, how=some | {"draws": 1}, seed=0)  # the first also allocates
    begun = time.perf_counter()
    read_chains(model, batches, n_beta=2.0, how=some, seed=0)
    return (time.perf_counter() - begun) / _TRIES
