"""What a run that is begun already fixes of a configuration, and what a change of it does to the learning rate.

A warm-up that is a part of the run is turned into whole steps when the run begins; a run that is made longer keeps
them. A change that bends the course of the learning rate is told of. Pure functions of configurations; whether a run
may go on under a changed one, `checkpoint.changes` decides.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from pico_schema import RunManifest
from pico_train.config.describe import is_section
from pico_train.config.mistakes import sentences
from pico_train.config.schema import RunConfig
from pico_train.counting import counted
from pico_train.errors import ConfigError
from pico_train.schedules import derived_warmup, learning_rate


def read(config: Mapping[str, Any], run: str) -> RunConfig:
    """The configuration that a run records, by whatever version of pico-train.

    A setting that this version does not have is passed over; one that the record lacks has its default, which is what
    was done before there was such a setting.

    Args:
        config: as the run's manifest has it.
        run: what the run is called in an error.

    Raises:
        ConfigError: it says what this version cannot do.
    """
    try:
        return RunConfig.model_validate(_known(config, RunConfig))
    except ValidationError as error:
        said = sentences(error, lambda _: "")
        raise ConfigError(
            f"the configuration that {run} records is not one of this version of pico-train: {said}"
        ) from None


def completed(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration that a run records as this version would record it; as it is, where that cannot be."""
    try:
        return read(config, "it").model_dump(mode="json")
    except ConfigError:
        return config


def _known(values: Mapping[str, Any], section: type[BaseModel]) -> dict[str, Any]:
    """The settings that a section has, without others."""
    known = {}
    for name, field in section.model_fields.items():
        if name in values:
            value, inner = values[name], cast("type[BaseModel]", field.annotation)
            known[name] = _known(value, inner) if is_section(inner) and isinstance(value, Mapping) else value
    return known


def with_whole_warmup(config: RunConfig, run: RunManifest | None) -> RunConfig:
    """The configuration with its warm-up in steps: those of the run, if it is begun and the same part was asked for.

    Args:
        config: as it was resolved; one that gives steps already is returned as it is.
        run: the run that goes on; None for a new one.

    Raises:
        ConfigError: the run's warm-up leaves nothing of a shorter `training.max_steps`.
    """
    schedule, max_steps = config.training.schedule, config.training.max_steps
    if schedule.warmup_steps is not None:
        return config
    steps = schedule.warmup_of(max_steps)
    begun = _begun(run) if run is not None else None
    if begun is not None and schedule.warmup_of(begun[1]) == begun[0]:
        steps = begun[0]
        if schedule.name != "constant" and steps >= max_steps > 1:
            raise ConfigError(
                f"the run {config.name} was begun with a warm-up of {counted(steps, 'step')}, which leaves nothing of "
                f"training.max_steps={max_steps}: set more, or give the new run another name with --name"
            )
    settled = schedule.model_copy(update={"warmup": None, "warmup_steps": steps})
    return config.model_copy(update={"training": config.training.model_copy(update={"schedule": settled})})


def _begun(run: RunManifest) -> tuple[int, int] | None:
    """Steps of warm-up of a run, and the `max_steps` that it was begun with; None if it does not record them."""
    training = _mapping(run.config, "training")
    schedule, max_steps = _mapping(training, "schedule"), training.get("max_steps")
    for change in reversed(run.changes):
        if change.field == "training.max_steps":
            max_steps = change.before
    if not isinstance(max_steps, int):
        return None
    steps = schedule.get("warmup_steps")
    if steps is None and isinstance(schedule.get("warmup"), float | int):
        steps = derived_warmup(str(schedule.get("name")), schedule["warmup"], max_steps)
    return (steps, max_steps) if isinstance(steps, int) else None


def bend(before: Mapping[str, Any], after: RunConfig, step: int) -> str | None:
    """One sentence if a run that goes on at `step` does so at another learning rate than it was to have there.

    Args:
        before: the configuration under which it came to that step, as its manifest records it.
        after: the configuration under which it goes on.
        step: updates done.

    Returns:
        The step and both rates, and what to do; None if the rate is the same, or the record does not tell it.
    """
    if step == 0:
        return None
    old, new = recorded_rate(before, step), rate(after, step)
    if old is None or math.isclose(old, new, rel_tol=1e-9, abs_tol=0.0):
        return None
    was, now = _mapping(before, "training").get("max_steps"), after.training.max_steps
    cause = f"training.max_steps was {was} and is now {now}" if was != now else "its settings have changed"
    return (
        f"the learning rate bends at step {step}: {cause}, so that this update is made at {new:.3g}, where the "
        f"schedule had come to {old:.3g}. For a run of one unbroken schedule, train a new one with --name and --set "
        f"training.max_steps={now}; one under training.schedule.name=wsd can be made longer without a bend until its "
        "decay begins"
    )


def rate(config: RunConfig, step: int) -> float:
    """Learning rate of update `step` → `step + 1` under a configuration."""
    training = config.training
    return learning_rate(
        step, peak=training.optimizer.lr, max_steps=training.max_steps, **training.schedule.model_dump()
    )


def recorded_rate(config: Mapping[str, Any], step: int) -> float | None:
    """Learning rate of update `step` → `step + 1` under a recorded configuration; None if it does not tell it."""
    training = _mapping(config, "training")
    try:
        return learning_rate(
            step,
            peak=_mapping(training, "optimizer")["lr"],
            max_steps=training["max_steps"],
            **_mapping(training, "schedule"),
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


def _mapping(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = values.get(key)
    return found if isinstance(found, Mapping) else {}
