"""What a question means for a run: which matrices are built at which steps, and which of them are compared.

Everything that can be wrong with a question is found here, before a tensor is read: names, layers, sites and steps that
do not exist, data a metric is not defined for, captures of different samples. What a checkpoint lacks is skipped,
counted and reported. A plan is plain data: `tasks.py` cuts it, `compute.py` carries it out, here or elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from pico_analyze.components.spec import COMPONENTS, Unit
from pico_analyze.engine.pairs import compared, verifiable
from pico_analyze.engine.run_view import RunView
from pico_analyze.engine.tasks import Job, Side
from pico_analyze.engine.versions import code_version
from pico_analyze.errors import UsageError
from pico_analyze.metrics.spec import METRICS
from pico_analyze.questions.question import Question, Selection, Use
from pico_analyze.statistics.uncertainty import check_resampled
from pico_analyze.stores.base import StepInfo, Store
from pico_analyze.table.columns import digest

_RULES = ("checked", "rows are the sample")
"""Part of every digest: rows of before are computed again. Files are compared with their digests; whole rows are
resampled, and samples that are the same, tied, two or of extreme size count as they should."""


@dataclass
class Plan:
    """Jobs, and what was asked for and cannot be computed."""

    stores: list[Store] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    """What is missing → how many times something was skipped for it."""
    warnings: Counter[str] = field(default_factory=Counter)
    """What is computed although it cannot be checked → how often."""


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
        if question.bootstrap and question.data == "activations":
            check_resampled(metric, dict(metrics[-1].params))
    comparisons = [use.name for use in metrics if METRICS.get(use.name).kind == "pair"]
    if not comparisons and (question.target is not None or question.pairs != "target"):
        asked = "--target" if question.target is not None else f"--pairs {question.pairs}"
        raise UsageError(f"metric {metrics[0].name!r} describes one checkpoint: {asked} goes with comparisons")
    if question.data == "noise" and (question.bootstrap or question.null):
        asked = "--bootstrap" if question.bootstrap else "--null"
        raise UsageError(f"{asked} is not for noise, of which metrics give an interval of their own: leave it out")
    if question.bootstrap and question.data != "activations":
        raise UsageError(f"a bootstrap resamples samples: {question.data} have none, only activations do")
    if question.null == "permutation" and question.data != "activations":
        raise UsageError(f"a permutation null permutes samples: {question.data} have none; use --null random_init")
    split = None if question.data == "weights" else question.split
    heads = question.heads or not component.has_whole
    return replace(question, metrics=tuple(metrics), component=Use.of(component.name, params), split=split, heads=heads)


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
    number = len(plan.questions) - 1
    for kind in ("single", "pair"):
        uses = tuple(use for use in question.metrics if METRICS.get(use.name).kind == kind)
        if not uses:
            continue
        if kind == "pair" and question.data == "activations" and there is not here and not verifiable(here, there):
            plan.warnings[
                f"whether {here.name} and {there.name} captured the same samples cannot be verified: one has no "
                "digests, so rows are taken to correspond"
            ] += 1
        pairs: Iterator[tuple[StepInfo, Unit, tuple[StepInfo, Unit] | None]] = (
            ((step, unit, None) for step, unit in here.matrices(plan.skipped))
            if kind == "single"
            else ((a, unit, (b, place)) for a, unit, b, place in compared(question, here, there, plan.skipped))
        )
        for step, unit, target in pairs:
            x, y, compared_with = Side(own, step.step, unit), None, None
            if target is not None:
                to, place = target
                y = Side(other, to.step, place)
                compared_with = [there.store.run, to.step, there.content(to, place), vars(place)]
            base = (
                [question.component.name, question.component.params, question.data, question.split, question.heads],
                [question.uncertainty(), code_version(here.component), store.run, store.kind, vars(unit), step.step],
                [_RULES, here.content(step, unit), compared_with],
                question.pairs == "layers",
            )
            digests = tuple(digest(use.name, use.params, code_version(METRICS.get(use.name)), *base) for use in uses)
            plan.jobs.append(Job(number, x, y, uses, digests))


def _index(plan: Plan, store: Store) -> int:
    for index, known in enumerate(plan.stores):
        if known is store:
            return index
    plan.stores.append(store)
    return len(plan.stores) - 1
