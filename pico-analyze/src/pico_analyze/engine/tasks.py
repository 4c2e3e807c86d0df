"""How work is cut: from jobs to tasks, from tasks to shards and to batches. Plain data and pure functions.

A *job* is all metrics of one question on one matrix (and its heads), or on one pair. A *task* is all jobs of one
checkpoint, with what each is compared with, on tensors that belong together: it gives one part of the table, so it is
what a worker that dies costs. Tasks that share a tensor are neighbours; a *batch* is a stretch of them that one worker
does in order, so that none reads what it has just read. A *shard* is a fixed share of all tasks, the same on every
machine that plans the same questions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

from pico_analyze.components.spec import COMPONENTS, Unit
from pico_analyze.errors import UsageError
from pico_analyze.questions.question import Question, Use
from pico_analyze.stores.base import Data
from pico_analyze.table.columns import digest

T = TypeVar("T")
TensorKey = tuple[int, int, str | None, Data, str]
"""One tensor: index of the run, step, split (None for weights), kind of data, site."""
_Place = tuple[int, str | None, Data, str]
"""Where tensors of all steps lie."""


@dataclass(frozen=True)
class Side:
    """One unit of one checkpoint: what becomes a matrix and one per head."""

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
    digests: tuple[str, ...]
    """For each metric, the digest of question and inputs."""

    @property
    def sides(self) -> tuple[Side, ...]:
        """The one unit, or the two that are compared."""
        return (self.x,) if self.y is None else (self.x, self.y)


@dataclass(frozen=True)
class Task:
    """All jobs of one checkpoint on one group of tensors."""

    jobs: tuple[Job, ...]

    @property
    def store(self) -> int:
        """Index of the run whose table the rows belong to."""
        return self.jobs[0].x.store

    @cached_property
    def digest(self) -> str:
        """Stands for what the task computes; its part is named by it."""
        return digest([job.digests for job in self.jobs])


@dataclass(frozen=True)
class Shard:
    """One of several equal shares of all tasks."""

    index: int
    """From 1."""
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """A shard written ``I/N``, 1 ≤ I ≤ N.

        Raises:
            UsageError: it is not of that form.
        """
        match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text.strip())
        if match is None:
            raise UsageError(f"shard {text!r} is not of the form I/N, such as 1/4 for the first of four")
        if not 1 <= int(match[1]) <= int(match[2]):
            raise UsageError(f"there is no shard {match[1]} of {match[2]}: I of I/N counts from 1 to N")
        return cls(int(match[1]), int(match[2]))

    def of(self, tasks: Sequence[T]) -> Sequence[T]:
        """Those of this shard, of tasks or steps: a stretch of them, so that what shares tensors stays together."""
        low, high = ((self.index - 1) * len(tasks)) // self.count, (self.index * len(tasks)) // self.count
        return tasks[low:high]

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def tensors_of(job: Job, side: Side, questions: Sequence[Question]) -> list[TensorKey]:
    """Every tensor that one side of a job reads."""
    return tensors_of_side(side, questions[job.question])


def tensors_of_side(side: Side, question: Question) -> list[TensorKey]:
    """Every tensor that a question reads of one unit of one checkpoint."""
    return [
        (side.store, side.step, None if data == "weights" else question.split, data, site)
        for data, site in COMPONENTS.get(question.component.name).needs(question.data, side.unit)
    ]


def cut(jobs: Sequence[Job], questions: Sequence[Question]) -> list[Task]:
    """The jobs as tasks: one per group of tensors (most often a layer, or a site of it) and checkpoint.

    The order is a function of the jobs alone: group by group, run by run, step by step.
    """
    groups: dict[_Place, dict[tuple[int, int], list[Job]]] = {}
    find = _groups([_places(job, questions) for job in jobs])
    for job in jobs:
        group = groups.setdefault(find(_places(job, questions)[0]), {})
        group.setdefault((job.x.store, job.x.step), []).append(job)
    return [Task(tuple(group[key])) for group in groups.values() for key in sorted(group)]


def _places(job: Job, questions: Sequence[Question]) -> list[_Place]:
    return [
        (store, split, data, site)
        for side in job.sides
        for store, _, split, data, site in tensors_of(job, side, questions)
    ]


def _groups(together: Sequence[Sequence[_Place]]) -> Callable[[_Place], _Place]:
    """Which group a place is in, given lists of places that belong together (union-find)."""
    parent: dict[_Place, _Place] = {}

    def root(place: _Place) -> _Place:
        parent.setdefault(place, place)
        while parent[place] != place:
            parent[place] = place = parent[parent[place]]
        return place

    for places in together:
        for place in places[1:]:
            parent[root(place)] = root(places[0])
    return root


def without(tasks: Sequence[Task], known: Set[str]) -> list[Task]:
    """What is left of the tasks when these digests need not be computed again."""
    return [left for task in tasks if (left := _left(task, known)) is not None] if known else list(tasks)


def only(tasks: Sequence[Task], wanted: Set[str]) -> list[Task]:
    """What is left of the tasks when nothing but these digests is to be computed."""
    every = {digest for task in tasks for job in task.jobs for digest in job.digests}
    return without(tasks, every - wanted)


def _left(task: Task, known: Set[str]) -> Task | None:
    jobs = []
    for job in task.jobs:
        kept = [(use, key) for use, key in zip(job.metrics, job.digests, strict=True) if key not in known]
        if len(kept) == len(job.metrics):
            jobs.append(job)
        elif kept:
            uses, digests = zip(*kept, strict=True)
            jobs.append(replace(job, metrics=uses, digests=digests))
    return Task(tuple(jobs)) if jobs else None


def batched(
    tasks: Sequence[Task], questions: Sequence[Question], *, workers: int, at_most: int | None = None
) -> list[tuple[Task, ...]]:
    """The tasks in batches: each a stretch of tasks that share tensors.

    Args:
        tasks: In the order of `cut`.
        questions: What they ask.
        workers: There is a batch for each, if there are tasks enough; what the parts of a group share is then read
            by each of them.
        at_most: Tasks of a batch, where what is done is known batch by batch only.
    """
    batches = [stretch for group in _together(tasks, questions) for stretch in _stretches(group, at_most)]
    while len(batches) < workers:
        largest = max(batches, key=len, default=())
        if len(largest) < 2:
            break
        at, half = batches.index(largest), len(largest) // 2
        batches[at : at + 1] = [largest[:half], largest[half:]]
    return batches


def _together(tasks: Sequence[Task], questions: Sequence[Question]) -> Iterator[tuple[Task, ...]]:
    """Runs of neighbours that are in one group of tensors."""
    jobs = [job for task in tasks for job in task.jobs]
    find = _groups([_places(job, questions) for job in jobs])
    begin, current = 0, None
    for position, task in enumerate(tasks):
        group = find(_places(task.jobs[0], questions)[0])
        if position and group != current:
            yield tuple(tasks[begin:position])
            begin = position
        current = group
    if tasks:
        yield tuple(tasks[begin:])


def _stretches(group: tuple[Task, ...], at_most: int | None) -> Iterator[tuple[Task, ...]]:
    size = at_most or len(group)
    yield from (group[start : start + size] for start in range(0, len(group), size))
