"""At which steps something happens: pure functions of the step and a `Cadence` of the configuration.

`early` gives 0, 1, 2, 4, 8 … up to its value; `every` the multiples of its value above 0; `at` the steps it lists;
`last` the final step. The steps due are the union of these, within 0 … max_steps.
"""

from __future__ import annotations

from collections.abc import Iterable

from pico_train.config import Cadence, CheckpointConfig


def is_due(cadence: Cadence, step: int, max_steps: int) -> bool:
    """Whether `step` is one of the steps of `cadence` in a run of `max_steps` updates."""
    if not 0 <= step <= max_steps:
        return False
    if cadence.early is not None and step <= cadence.early and step & (step - 1) == 0:
        return True
    if cadence.every is not None and step > 0 and step % cadence.every == 0:
        return True
    return step in cadence.at or (cadence.last and step == max_steps)


def steps_due(cadence: Cadence, max_steps: int) -> list[int]:
    """All steps of `cadence` in a run of `max_steps` updates, ascending."""
    candidates: set[int] = {step for step in cadence.at if step <= max_steps}
    if cadence.early is not None:
        candidates.update(_powers(min(cadence.early, max_steps)))
    if cadence.every is not None:
        candidates.update(range(cadence.every, max_steps + 1, cadence.every))
    if cadence.last:
        candidates.add(max_steps)
    return sorted(candidates)


def _powers(bound: int) -> Iterable[int]:
    """0, 1, 2, 4 … up to `bound`."""
    yield 0
    power = 1
    while power <= bound:
        yield power
        power *= 2


def checkpoint_steps(config: CheckpointConfig, max_steps: int) -> list[int]:
    """All steps at which a checkpoint is taken, ascending: where weights, training state or captures are due.

    Weights are part of each one, since neither the others nor a reader could do without them.
    """
    steps: set[int] = set()
    for cadence in (config.weights, config.training_state, config.captures):
        steps.update(steps_due(cadence, max_steps))
    return sorted(steps)
