"""What a suite will take, in all and for each member; and how long a step takes here, measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from pico_schema.manifest import Coordinate
from pico_train import plan as planning
from pico_train.config import RunConfig
from pico_train.config.suites import Member, batches
from pico_train.counting import counted


class MemberPlan(BaseModel):
    """What one member will take."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    coordinates: dict[str, Coordinate]
    """Axis → value."""
    run: planning.PlanReport
    """As `pico-train plan` says."""


class SuitePlan(BaseModel):
    """What a suite will take. Plain counts, bytes and seconds; None where it cannot be known from what was given."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    members: tuple[MemberPlan, ...]
    tokens: int
    """Tokens trained on in all runs."""
    flops: float
    """Operations of all runs."""
    seconds: float | None
    """Time of all runs, one after the other."""
    disk_bytes: int
    """Bytes on disk at the end."""
    published_bytes: int
    """What publishing all of them sends."""
    data_orders: int
    """How many different lines of batches the members see."""
    measured: bool
    """Whether times are those of steps that were made here."""


def plan_suite(
    members: Sequence[Member],
    *,
    devices: int | None = None,
    peak_tflops: float | None = None,
    mfu: float = 0.4,
    step_seconds: Callable[[RunConfig], float] | None = None,
) -> SuitePlan:
    """Return what members will take.

    Args:
        members: of a suite.
        devices: of each run, as `plan.plan` takes it.
        peak_tflops: dense peak of one device, in 10¹² operations per second.
        mfu: part of it that is reached.
        step_seconds: measures the time of one update of a configuration; asked once for each kind of member.

    Raises:
        ConfigError: a batch does not divide over the devices.
    """
    known: dict[str, float] = {}
    found = []
    for member in members:
        report = planning.plan(member.config, devices=devices, peak_tflops=peak_tflops, mfu=mfu)
        if step_seconds is not None:
            kind = _kind(member.config)
            if kind not in known:
                known[kind] = step_seconds(member.config)
            seconds = known[kind]
            report = report.model_copy(update={"seconds_per_step": seconds, "seconds": seconds * report.steps})
        found.append(MemberPlan(coordinates=dict(member.coordinates), run=report))
    times = [each.run.seconds for each in found]
    return SuitePlan(
        members=tuple(found),
        tokens=sum(each.run.tokens for each in found),
        flops=sum(each.run.flops for each in found),
        seconds=None if None in times else sum(time for time in times if time is not None),
        disk_bytes=sum(each.run.disk_bytes for each in found),
        published_bytes=sum(each.run.published_bytes for each in found),
        data_orders=len({str(batches(member.config)) for member in members}),
        measured=step_seconds is not None,
    )


def _kind(config: RunConfig) -> str:
    """What the time of a step depends on."""
    training = config.training.model_dump(mode="json", exclude={"max_steps", "schedule", "init_seed"})
    training["optimizer"] = training["optimizer"].get("name")
    return str((config.model.model_dump(), config.data.seq_len, training, config.distributed.model_dump()))


def as_table(plan: SuitePlan) -> list[dict[str, Any]]:
    """Return one line for each member, and one for all."""
    rows = []
    for each in plan.members:
        run = each.run
        rows.append(
            _line(run.name, f"{run.parameters:,}", f"{run.steps:,}", run.tokens, run.flops, run.seconds, run.disk_bytes)
        )
    runs = counted(len(plan.members), "run")
    return [*rows, _line(f"{runs} in all", "", "", plan.tokens, plan.flops, plan.seconds, plan.disk_bytes)]


def _line(
    name: str, parameters: str, steps: str, tokens: int, flops: float, seconds: float | None, disk: int
) -> dict[str, Any]:
    return {
        "member": name,
        "parameters": parameters,
        "steps": steps,
        "tokens": f"{tokens:,}",
        "FLOPs": f"{flops:.3g}",
        "time": planning.duration(seconds) or "unknown",
        "disk": planning.bytes_shown(disk),
    }


def notes(plan: SuitePlan) -> list[str]:
    """Return sentences about the table."""
    orders = counted(plan.data_orders, "line of batches", "different lines of batches")
    found = [f"the members see {orders}; publishing them would send {planning.bytes_shown(plan.published_bytes)}"]
    if plan.seconds is None:
        found.append("times are unknown: give --peak-tflops, or --measure makes a few steps of each kind here")
    elif plan.measured:
        found.append("times are those of steps made here, without checkpoints and evaluations, one run after the other")
    else:
        found.append("times leave out checkpoints and evaluations, one run after the other")
    return found
