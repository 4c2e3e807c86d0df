"""What a question means for a run: which matrices are built at which steps, and which of them are compared.

Everything that can be wrong with a question is found here, before a tensor is read: names, layers, sites and steps that
do not exist, data a metric is not defined for, captures of different samples. What a checkpoint lacks is skipped,
counted and reported. A plan is plain data: `execution.py` carries it out, in this process or in others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from pico_analyze.components.spec import COMPONENTS, ComponentSpec, Unit
from pico_analyze.engine.run_view import RunView
from pico_analyze.errors import DataError, SamplesError, UsageError
from pico_analyze.metrics.spec import METRICS, MetricSpec
from pico_analyze.questions.question import Question, Selection, Target, Use, existing
from pico_analyze.stores.base import StepInfo, Store
from pico_analyze.table.columns import digest
from pico_analyze.version import __version__


@dataclass(frozen=True)
class Side:
    """One unit of one checkpoint: what becomes a matrix per head."""

    store: int
    """Index of the run in `Plan.stores`."""
    step: int
    unit: Unit


@dataclass(frozen=True)
class Job:
    """All metrics of one question on one unit at one step, or on one pair."""

    question: int
    """Index in `Plan.questions`."""
    x: Side
    y: Side | None
    """What it is compared with; None for metrics of one matrix."""
    metrics: tuple[Use, ...]
    """Resolved metrics, all single or all comparisons."""
    units: tuple[str, ...]
    """For each metric, the digest of question and inputs."""


@dataclass
class Plan:
    """Jobs, and what was asked for and cannot be computed."""

    stores: list[Store] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    """What is missing → how many times something was skipped for it."""
    doubts: Counter[str] = field(default_factory=Counter)
    """What is computed although it cannot be checked → how often."""


def _code_version(spec: MetricSpec | ComponentSpec) -> str:
    """Version of the package a metric or component comes from: its rows are computed again when it changes."""
    function = spec.fn if isinstance(spec, MetricSpec) else spec.build
    return _package_version(function.__module__.partition(".")[0])


@cache
def _package_version(package: str) -> str:
    try:
        return __version__ if package == "pico_analyze" else version(package.replace("_", "-"))
    except PackageNotFoundError:
        return __version__


def resolve(question: Question) -> Question:
    """The question with every parameter filled in.

    Raises:
        UsageError: a name, parameter or combination that does not exist.
    """
    component = COMPONENTS.get(question.component.name)
    params = component.resolve(dict(question.component.params))
    component.check(question.data, params)
    metrics = []
    for use in question.metrics:
        metric = METRICS.get(use.name)
        metric.check_data(question.data)
        metrics.append(Use.of(metric.name, metric.resolve(dict(use.params))))
        if question.null == "permutation" and metric.kind == "single":
            raise UsageError(f"metric {metric.name!r} describes one matrix: a permutation leaves it as it is")
    comparisons = [use.name for use in metrics if METRICS.get(use.name).kind == "pair"]
    if not comparisons and (question.target is not None or question.pairs != "target"):
        asked = "--target" if question.target is not None else f"--pairs {question.pairs}"
        raise UsageError(f"metric {metrics[0].name!r} describes one checkpoint: {asked} goes with comparisons")
    if question.bootstrap and question.data != "activations":
        raise UsageError(f"a bootstrap resamples samples: {question.data} have none, only activations do")
    if question.null == "permutation" and question.data != "activations":
        raise UsageError(f"a permutation null permutes samples: {question.data} have none; use --null random_init")
    split = None if question.data == "weights" else question.split
    return replace(question, metrics=tuple(metrics), component=Use.of(component.name, params), split=split)


def extend(plan: Plan, question: Question, store: Store, target_store: Store | None = None) -> None:
    """Add to `plan` what `question` means for a run, compared with itself or with another one.

    Raises:
        UsageError: something in the question does not exist in this run.
        DataError: the run does not hold what the question needs.
    """
    question = resolve(question)
    own, other = _index(plan, store), _index(plan, target_store or store)
    plan.questions.append(question)
    here = RunView(store, question)
    there = here if target_store is None else RunView(target_store, replace(question, steps=Selection(), layers=None))
    number, metrics = len(plan.questions) - 1, [METRICS.get(use.name) for use in question.metrics]
    for kind in ("single", "pair"):
        uses = tuple(use for use, spec in zip(question.metrics, metrics, strict=True) if spec.kind == kind)
        if not uses:
            continue
        if kind == "pair" and question.data == "activations" and there is not here and not _verifiable(here, there):
            plan.doubts[
                f"whether {here.name} and {there.name} captured the same samples cannot be verified: one has no "
                "digests, so rows are taken to correspond"
            ] += 1
        pairs = (
            ((step, unit, None, None) for step, unit in here.matrices(plan.skipped))
            if kind == "single"
            else _pairs(question, here, there, plan.skipped)
        )
        for step, unit, other_step, other_unit in pairs:
            x = Side(own, step.step, unit)
            y = None if other_step is None or other_unit is None else Side(other, other_step.step, other_unit)
            base = (
                [question.component.name, question.component.params, question.data, question.split, question.heads],
                [question.uncertainty(), _code_version(here.component), store.run, store.kind, vars(unit), step.step],
                [step.digest, None if y is None else [there.store.run, y.step, other_step.digest, vars(y.unit)]],  # type: ignore[union-attr]
                question.pairs == "layers",
            )
            units = tuple(digest(use.name, use.params, _code_version(METRICS.get(use.name)), *base) for use in uses)
            plan.jobs.append(Job(number, x, y, uses, units))


def _index(plan: Plan, store: Store) -> int:
    for index, known in enumerate(plan.stores):
        if known is store:
            return index
    plan.stores.append(store)
    return len(plan.stores) - 1


_Pair = tuple[StepInfo, Unit, StepInfo, Unit]


def _pairs(question: Question, here: RunView, there: RunView, skipped: Counter[str]) -> Iterator[_Pair]:
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
    holding = there.holding()
    by_step = {info.step: info for info in there.known}
    if isinstance(target.step, int):
        if target.step not in by_step:
            raise UsageError(f"target step {target.step} does not exist: {existing('step', list(by_step), there.name)}")
        fixed = by_step[target.step]
        if fixed not in holding:
            steps = existing("step", [info.step for info in holding], f"of what is asked, {there.name}")
            raise DataError(f"target step {target.step} of {there.name} has no {there.what}: {steps}")
    elif target.step in ("first", "last"):
        fixed = holding[0 if target.step == "first" else -1]
    elif target.step == "same" and len(there.known) == 1 and there is not here:
        fixed = there.known[0]  # a model without steps, or one revision: it stands for all
    else:
        matched = False
        for info in here.steps:
            if target.step == "prev":
                before = [known for known in here.holding() if known.step < info.step]
                if before:
                    yield info, before[-1]
                else:
                    skipped[f"step {info.step} of {here.name} has no earlier checkpoint"] += 1
            elif info.step in by_step:
                matched = True
                yield info, by_step[info.step]
            else:
                skipped[f"{there.name} has no step {info.step}"] += 1
        if target.step == "same" and not matched:
            raise DataError(
                f"{here.name} and {there.name} have no step in common: "
                f"{existing('step', list(by_step), there.name)}; give RUN@STEP"
            )
        return
    for info in here.steps:
        yield info, fixed


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


def _verifiable(here: RunView, there: RunView) -> bool:
    """Whether both runs tell, by a digest, which samples they captured."""
    held = (info.splits.get(view.question.split or "") for view in (here, there) for info in view.known)
    return all(split is None or split.samples_sha256 is not None for split in held)


def split_by_known(plan: Plan, known: set[str]) -> Sequence[Job]:
    """The jobs that are left when these units need not be computed again, with the metrics that are left."""
    remaining = []
    for job in plan.jobs:
        kept = [(use, unit) for use, unit in zip(job.metrics, job.units, strict=True) if unit not in known]
        if kept:
            uses, units = zip(*kept, strict=True)
            remaining.append(replace(job, metrics=uses, units=units))
    return remaining
