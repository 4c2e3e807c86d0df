"""Carrying out jobs one after the other: build each matrix once, compute all that needs it, give back rows.

A tensor is read when it is first needed and dropped after its last use; should the memory bound be reached before, what
was used longest ago goes first, and is read again. Who does which jobs, in which order, is `sharing.py`'s business.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property

import numpy as np

from pico_analyze.components.spec import COMPONENTS, Labelled
from pico_analyze.engine.plan import Job, Side
from pico_analyze.engine.rows import RowMaker
from pico_analyze.errors import SamplesError
from pico_analyze.metrics.spec import METRICS, MetricSpec, Result
from pico_analyze.questions.question import Question
from pico_analyze.stores.base import Data, Store
from pico_analyze.stores.opening import ReadOptions, open_store
from pico_analyze.table.columns import Row

_TensorKey = tuple[int, int, str | None, Data, str]
_MatrixKey = tuple[Side, object, Data, str | None, bool]
_OVERHEAD = 3.0
"""What a matrix and all that is derived from it weigh, over the tensors it is made of (float64 copies, cores)."""


@dataclass
class Tally:
    """What was done, for the summary and for tests."""

    reads: Counter[tuple[str, int, str | None, str, str]] = field(default_factory=Counter)
    """(location, step, split, data, site) → times read."""
    bytes_read: int = 0
    warnings: Counter[str] = field(default_factory=Counter)
    """Warning of a metric → times it was given."""
    undefined: Counter[str] = field(default_factory=Counter)
    """Reason → number of rows without a value."""
    skipped: Counter[str] = field(default_factory=Counter)
    """What could not be compared, found only while comparing → how often."""

    def add(self, other: Tally) -> None:
        """Add another process's tally."""
        self.reads.update(other.reads)
        self.bytes_read += other.bytes_read
        self.warnings.update(other.warnings)
        self.undefined.update(other.undefined)
        self.skipped.update(other.skipped)


class Bench:
    """The tensors and matrices at hand, within a bound in bytes."""

    def __init__(
        self, stores: Sequence[Store], questions: Sequence[Question], jobs: Sequence[Job], memory: float, tally: Tally
    ) -> None:
        self.stores, self.questions, self.memory, self.tally = stores, questions, memory, tally
        self._tensors: OrderedDict[_TensorKey, np.ndarray] = OrderedDict()
        self._matrices: OrderedDict[_MatrixKey, tuple[list[Labelled], float]] = OrderedDict()
        self._matrix_bytes = 0.0
        self._last_use: dict[_MatrixKey | _TensorKey, int] = {}
        self._ends: dict[int, list[_MatrixKey | _TensorKey]] = {}
        for position, job in enumerate(jobs):
            for side in filter(None, (job.x, job.y)):
                self._last_use[self._key(job, side)] = position
                for tensor in self._needs(job, side):
                    self._last_use[tensor] = position
        for key, position in self._last_use.items():
            self._ends.setdefault(position, []).append(key)

    def _key(self, job: Job, side: Side) -> _MatrixKey:
        question = self.questions[job.question]
        return side, question.component, question.data, question.split, question.heads

    def _needs(self, job: Job, side: Side) -> list[_TensorKey]:
        question = self.questions[job.question]
        component = COMPONENTS.get(question.component.name)
        return [
            (side.store, side.step, None if data == "weights" else question.split, data, site)
            for data, site in component.needs(question.data, side.unit)
        ]

    def matrices(self, job: Job, side: Side) -> list[Labelled]:
        """The matrices of one side of a job, whole first."""
        key = self._key(job, side)
        if key in self._matrices:
            self._matrices.move_to_end(key)
            return self._matrices[key][0]
        question = self.questions[job.question]
        component = COMPONENTS.get(question.component.name)
        weight = 0.0

        def read(data: Data, site: str) -> np.ndarray:
            nonlocal weight
            array = self._read((side.store, side.step, None if data == "weights" else question.split, data, site))
            weight += array.nbytes
            return array

        model = self.stores[side.store].spec(side.step)
        params = dict(question.component.params)
        built = list(component.build(read, model, question.data, side.unit, heads=question.heads, **params))
        weight *= _OVERHEAD
        self._make_room(weight)
        self._matrices[key] = built, weight
        self._matrix_bytes += weight
        return built

    def _read(self, key: _TensorKey) -> np.ndarray:
        if key in self._tensors:
            self._tensors.move_to_end(key)
            return self._tensors[key]
        store = self.stores[key[0]]
        array = store.read(*key[1:])
        self.tally.reads[(store.location, *key[1:])] += 1
        self.tally.bytes_read += array.nbytes
        self._tensors[key] = array
        return array

    def _make_room(self, weight: float) -> None:
        """Drop what was used longest ago until `weight` bytes more fit; the newest entry stays."""
        held = sum(array.nbytes for array in self._tensors.values())
        while self._matrices and self._matrix_bytes + held + weight > self.memory and len(self._matrices) > 1:
            _, (_, gone) = self._matrices.popitem(last=False)
            self._matrix_bytes -= gone
        while self._tensors and self._matrix_bytes + held + weight > self.memory:
            _, array = self._tensors.popitem(last=False)
            held -= array.nbytes

    def done(self, position: int) -> None:
        """Drop what no later job needs."""
        for key in self._ends.get(position, ()):
            if key in self._matrices:
                self._matrix_bytes -= self._matrices.pop(key)[1]  # type: ignore[arg-type]
            self._tensors.pop(key, None)  # type: ignore[arg-type]


@dataclass
class Work:
    """Everything a process needs to carry out jobs: picklable, runs by their location."""

    locations: tuple[str, ...]
    options: ReadOptions
    questions: tuple[Question, ...]
    memory: float
    """Bound of what is held at a time, in bytes."""

    @cached_property
    def stores(self) -> list[Store]:
        """The runs, opened here."""
        return [open_store(location, self.options) for location in self.locations]


def run_jobs(work: Work, jobs: Sequence[Job], tally: Tally) -> Iterator[list[Row]]:
    """Rows of one job after the other."""
    bench, maker = Bench(work.stores, work.questions, jobs, work.memory, tally), RowMaker(work.stores)
    metric_of = cache(METRICS.get)
    for position, job in enumerate(jobs):
        question = work.questions[job.question]
        rows = []
        for x, y in _paired(bench.matrices(job, job.x), None if job.y is None else bench.matrices(job, job.y)):
            if job.y is not None and y is None:
                other = work.stores[job.y.store]
                tally.skipped[f"run {other.run!r} has no head {x.head} of {x.site} to compare with"] += 1
                continue
            for use, unit in zip(job.metrics, job.units, strict=True):
                metric = metric_of(use.name)
                result = measure(metric, dict(use.params), x, y, question, job, work.stores)
                if result.reason is not None:
                    tally.undefined[result.reason] += 1
                if result.warning is not None:
                    tally.warnings[result.warning] += 1
                rows.append(maker.row(question, job, use, unit, x, y, result))
        bench.done(position)
        yield rows


def _paired(xs: list[Labelled], ys: list[Labelled] | None) -> Iterator[tuple[Labelled, Labelled | None]]:
    """Whole with whole, head with the same head, or with None where the other side does not have it."""
    if ys is None:
        yield from ((x, None) for x in xs)
        return
    others = {y.head: y for y in ys}
    yield from ((x, others.get(x.head)) for x in xs)


def measure(
    metric: MetricSpec,
    params: Mapping[str, object],
    x: Labelled,
    y: Labelled | None,
    question: Question,
    job: Job,
    stores: Sequence[Store],
) -> Result:
    """The metric's value, with intervals and chance where they were asked for.

    Raises:
        SamplesError: activations of different numbers of samples.
    """
    if y is not None and x.matrix.samples and x.matrix.shape[0] != y.matrix.shape[0] and job.y is not None:
        mine, yours = stores[job.x.store], stores[job.y.store]
        raise SamplesError(
            f"activations of step {job.x.step} of run {mine.run!r} have {x.matrix.shape[0]} samples, those of step "
            f"{job.y.step} of run {yours.run!r} {y.matrix.shape[0]}: of different samples, they cannot be compared"
        )
    matrices = (x.matrix,) if y is None else (x.matrix, y.matrix)
    result = metric(*matrices, **params)
    if result.reason is not None or not (question.bootstrap or question.null):
        return result
    from pico_analyze.statistics import uncertainty

    extra = dict(result.extra)
    if question.bootstrap:
        extra |= uncertainty.bootstrap(metric, matrices, params, question.bootstrap, question.seed)
    if question.null:
        extra |= uncertainty.null(metric, matrices, params, question.null, question.draws, question.seed)
    return Result(result.value, result.reason, extra, result.warning)
