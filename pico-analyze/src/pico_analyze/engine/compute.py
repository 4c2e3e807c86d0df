"""Carrying out tasks one after the other: build each matrix once, compute all that needs it, give back rows.

A tensor is read when it is first needed and dropped after its last use; should the memory bound be reached before, what
was used longest ago goes first, and is read again. Where tasks are carried out is decided in `executors.py`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from pico_analyze.components.spec import COMPONENTS, Labelled
from pico_analyze.counting import counted
from pico_analyze.engine.rows import RowMaker
from pico_analyze.engine.tasks import Job, Side, Task, TensorKey, tensors_of, tensors_of_side
from pico_analyze.engine.work import Tally
from pico_analyze.errors import SamplesError
from pico_analyze.metrics.spec import METRICS, MetricSpec, Result
from pico_analyze.questions.question import Question
from pico_analyze.statistics import uncertainty
from pico_analyze.stores.base import CountsPositions, Data, Store
from pico_analyze.table.columns import Row

K = TypeVar("K")

_MatrixKey = tuple[Side, object, Data, str | None, bool]
_OVERHEAD = 3.0
"""What a matrix and all that is derived from it weigh, over the tensors it is made of (float64 copies, cores)."""


class Workspace:
    """The tensors and matrices at hand while a batch of tasks is carried out, within a bound in bytes.

    Args:
        stores: The runs.
        questions: What is asked.
        jobs: All jobs of the batch, in order: what none of those left needs is dropped.
        memory: Bound in bytes of what is held.
        tally: Counts what is read.
    """

    def __init__(
        self,
        stores: Sequence[Store],
        questions: Sequence[Question],
        jobs: Sequence[Job],
        memory: float,
        tally: Tally,
    ) -> None:
        self.stores, self.questions, self.memory, self.tally = stores, questions, memory, tally
        self._tensors: OrderedDict[TensorKey, np.ndarray] = OrderedDict()
        self._matrices: OrderedDict[_MatrixKey, tuple[list[Labelled], float]] = OrderedDict()
        self._matrix_bytes = 0.0
        matrix_ends: dict[_MatrixKey, int] = {}
        tensor_ends: dict[TensorKey, int] = {}
        for position, job in enumerate(jobs):
            for side in job.sides:
                matrix_ends[self._key(job, side)] = position
                tensor_ends.update(dict.fromkeys(tensors_of(job, side, questions), position))
        self._matrix_ends, self._tensor_ends = _by_end(matrix_ends), _by_end(tensor_ends)

    def _key(self, job: Job, side: Side) -> _MatrixKey:
        question = self.questions[job.question]
        return side, question.component, question.data, question.split, question.heads

    def matrices(self, job: Job, side: Side) -> list[Labelled]:
        """The matrices of one side of a job, whole first."""
        key = self._key(job, side)
        if key in self._matrices:
            self._matrices.move_to_end(key)
            return self._matrices[key][0]
        question = self.questions[job.question]
        weight = 0.0

        def read(data: Data, site: str) -> np.ndarray:
            nonlocal weight
            array = self._read((side.store, side.step, None if data == "weights" else question.split, data, site))
            weight += array.nbytes
            return array

        model, params = self.stores[side.store].spec(side.step), dict(question.component.params)
        component = COMPONENTS.get(question.component.name)
        built = component.matrices(read, model, question.data, side.unit, heads=question.heads, params=params)
        weight *= _OVERHEAD
        self._make_room(weight)
        self._matrices[key] = built, weight
        self._matrix_bytes += weight
        return built

    def _read(self, key: TensorKey) -> np.ndarray:
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
        """Drop what no job after this one needs."""
        for matrix in self._matrix_ends.get(position, ()):
            if matrix in self._matrices:
                self._matrix_bytes -= self._matrices.pop(matrix)[1]
        for tensor in self._tensor_ends.get(position, ()):
            self._tensors.pop(tensor, None)


def _by_end(ends: Mapping[K, int]) -> dict[int, list[K]]:
    found: dict[int, list[K]] = {}
    for key, position in ends.items():
        found.setdefault(position, []).append(key)
    return found


def rows_of(
    tasks: Sequence[Task],
    stores: Sequence[Store],
    questions: Sequence[Question],
    *,
    memory: float,
    tally: Tally,
) -> Iterator[tuple[Task, list[Row]]]:
    """Each task with its rows, one after the other.

    Args:
        tasks: A batch: tasks that share tensors, in order.
        stores: The runs.
        questions: What is asked.
        memory: Bound in bytes of what is held at a time.
        tally: Filled with what was done.

    Raises:
        SamplesError: activations of different numbers of samples.
        PicoAnalyzeError: what reading, components and metrics raise.
    """
    jobs = [job for task in tasks for job in task.jobs]
    space = Workspace(stores, questions, jobs, memory, tally)
    maker = RowMaker(stores, lambda question, side: tensors_of_side(side, questions[question]))
    position = 0
    for task in tasks:
        rows: list[Row] = []
        for job in task.jobs:
            rows += _rows_of_job(job, space, maker, tally)
            space.done(position)
            position += 1
        yield task, rows


def _rows_of_job(job: Job, space: Workspace, maker: RowMaker, tally: Tally) -> Iterator[Row]:
    question = space.questions[job.question]
    others = None if job.y is None else {y.head: y for y in space.matrices(job, job.y)}
    positions = _positions(job, space, tally)
    for x in space.matrices(job, job.x):
        y = None if others is None else others.get(x.head)
        if job.y is not None and y is None:
            run = space.stores[job.y.store].run
            tally.skipped[f"run {run!r} has no head {x.head} of {x.site} to compare with"] += 1
            continue
        if y is not None:
            _check_samples(job, x, y, space.stores)
        for use, digest in zip(job.metrics, job.digests, strict=True):
            result = measure(METRICS.get(use.name), dict(use.params), x, y, question, positions)
            if result.reason is not None:
                tally.undefined[result.reason] += 1
            if result.warning is not None:
                tally.warnings[result.warning] += 1
            yield maker.row(question, job, use, digest, x, y, result)


def _check_samples(job: Job, x: Labelled, y: Labelled, stores: Sequence[Store]) -> None:
    """Refuse activations of different numbers of samples, which a store could not tell beforehand."""
    if x.matrix.samples and x.matrix.shape[0] != y.matrix.shape[0] and job.y is not None:
        mine, yours = stores[job.x.store], stores[job.y.store]
        raise SamplesError(
            f"activations of step {job.x.step} of run {mine.run!r} have "
            f"{counted(x.matrix.shape[0], 'sample')}, those of step "
            f"{job.y.step} of run {yours.run!r} {y.matrix.shape[0]}: of different samples, they cannot be compared"
        )


def _positions(job: Job, space: Workspace, tally: Tally) -> int:
    """Samples of each row of what a job resamples; 1 where nothing is, or the store cannot tell."""
    question, store = space.questions[job.question], space.stores[job.x.store]
    if question.data != "activations" or not (question.bootstrap or question.null == "permutation"):
        return 1
    if isinstance(store, CountsPositions):
        return store.positions(job.x.step, question.split or "")
    tally.warnings[
        f"run {store.run!r} does not say which samples are of one row of tokens: each is taken for a row of its own, "
        "and intervals are too narrow where they are not"
    ] += 1
    return 1


def measure(
    metric: MetricSpec,
    params: Mapping[str, object],
    x: Labelled,
    y: Labelled | None,
    question: Question,
    positions: int = 1,
) -> Result:
    """The metric's value, with intervals and chance where they were asked for; `positions` samples are of each row."""
    matrices = (x.matrix,) if y is None else (x.matrix, y.matrix)
    result = metric(*matrices, **params)
    if result.reason is not None or not (question.bootstrap or question.null):
        return result
    extra = dict(result.extra)
    if question.bootstrap:
        extra |= uncertainty.bootstrap(metric, matrices, params, question.bootstrap, question.seed, positions=positions)
    if question.null:
        extra |= uncertainty.null(
            metric, matrices, params, question.null, question.draws, question.seed, positions=positions
        )
    return Result(result.value, result.reason, extra, result.warning)
