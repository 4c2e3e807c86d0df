"""What is compared with what: the checkpoints, layers and sites on both sides of each comparison."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from pico_analyze.components.spec import Unit
from pico_analyze.engine.run_view import RunView
from pico_analyze.errors import DataError, SamplesError, UsageError
from pico_analyze.questions.question import Question, Target, existing
from pico_analyze.stores.base import StepInfo

Pair = tuple[StepInfo, Unit, StepInfo, Unit]
"""Checkpoint and unit, and those they are compared with."""


def compared(question: Question, here: RunView, there: RunView, skipped: Counter[str]) -> Iterator[Pair]:
    """What is compared with what."""
    if question.pairs == "steps":
        steps = [(a, b) for a in here.steps for b in (here.steps if there is here else there.steps)]
    else:
        steps = list(_with_targets(question.effective_target, here, there, skipped))
    if there is here and len(here.known) == 1 and question.effective_target.step != "same":
        raise DataError(
            f"{here.name} has one checkpoint (step {here.known[0].step}): a comparison needs two: let it train on, or "
            "give --target RUN@STEP"
        )
    if question.data == "activations":
        for a, b in steps:
            _check_samples(question, here, a, there, b)
    for a, b in steps:
        for unit, other in _unit_pairs(question, here, there, skipped):
            if not here.missing(a, unit, skipped) and not there.missing(b, other, skipped):
                yield a, unit, b, other


def _unit_pairs(
    question: Question, here: RunView, there: RunView, skipped: Counter[str]
) -> Iterator[tuple[Unit, Unit]]:
    """Each unit with its counterpart; for pairs of layers, with all units of its site."""
    for unit in here.units:
        if question.pairs == "layers":
            yield from ((unit, other) for other in there.units if other.site == unit.site)
        elif unit in there.units:
            yield unit, unit
        else:
            place = unit.site if unit.layer is None else f"layer {unit.layer}, {unit.site},"
            skipped[f"{there.name} has no {place} to compare with"] += 1


def _with_targets(
    target: Target, here: RunView, there: RunView, skipped: Counter[str]
) -> Iterator[tuple[StepInfo, StepInfo]]:
    """Each step with the one it is compared with."""
    if target.step == "prev":
        yield from _with_previous(here, skipped)
    elif target.step == "same" and (there is here or len(there.known) > 1):
        yield from _with_same(here, there, skipped)
    else:
        fixed = _fixed(target, there)
        yield from ((info, fixed) for info in here.steps)


def _fixed(target: Target, there: RunView) -> StepInfo:
    """The one checkpoint that all steps are compared with."""
    if target.step == "same":
        return there.known[0]  # a model without steps, or one revision: it stands for all
    holding = there.holding()
    if not isinstance(target.step, int):
        return holding[0 if target.step == "first" else -1]
    by_step = {info.step: info for info in there.known}
    if target.step not in by_step:
        raise UsageError(f"target step {target.step} does not exist: {existing('step', list(by_step), there.name)}")
    if by_step[target.step] not in holding:
        steps = existing("step", [info.step for info in holding], f"of what is asked, {there.name}")
        raise DataError(f"target step {target.step} of {there.name} has no {there.what}: {steps}")
    return by_step[target.step]


def _with_previous(here: RunView, skipped: Counter[str]) -> Iterator[tuple[StepInfo, StepInfo]]:
    holding = here.holding()
    for info in here.steps:
        before = [known for known in holding if known.step < info.step]
        if before:
            yield info, before[-1]
        else:
            skipped[f"step {info.step} of {here.name} has no earlier checkpoint"] += 1


def _with_same(here: RunView, there: RunView, skipped: Counter[str]) -> Iterator[tuple[StepInfo, StepInfo]]:
    by_step = {info.step: info for info in there.known}
    for info in here.steps:
        if info.step in by_step:
            yield info, by_step[info.step]
        else:
            skipped[f"{there.name} has no step {info.step}"] += 1
    if not any(info.step in by_step for info in here.steps):
        raise DataError(
            f"{here.name} and {there.name} have no step in common: "
            f"{existing('step', list(by_step), there.name)}; give RUN@STEP"
        )


def _check_samples(question: Question, here: RunView, a: StepInfo, there: RunView, b: StepInfo) -> None:
    """Refuse to compare activations of different samples."""
    mine, yours = a.splits.get(question.split or ""), b.splits.get(question.split or "")
    if mine is None or yours is None:
        return
    known = mine.samples_sha256 is not None and yours.samples_sha256 is not None
    counts = mine.n_samples is not None and yours.n_samples is not None and mine.n_samples != yours.n_samples
    if (known and mine.samples_sha256 != yours.samples_sha256) or counts:
        why = (
            "each step captures its own batch: use --split val"
            if question.split == "train" and there is here
            else ("capture both on the same rows and positions")
        )
        other = f"step {b.step}" if there is here else f"step {b.step} of {there.name}"
        raise SamplesError(
            f"{question.split} activations of step {a.step} of {here.name} and of {other} are of different samples, so "
            f"they cannot be compared row by row: {why}"
        )


def verifiable(here: RunView, there: RunView) -> bool:
    """Whether both runs tell, by a digest, which samples they captured."""
    held = (info.splits.get(view.question.split or "") for view in (here, there) for info in view.known)
    return all(split is None or split.samples_sha256 is not None for split in held)
