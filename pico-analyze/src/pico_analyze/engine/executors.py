"""Who does which jobs, in which order: in this process, in several threads of it, or in several processes.

Jobs that share a tensor are in one group (most often those of a layer, or of a site in it), step by step within it.
Threads and processes share the work by groups, so that none reads what another has read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from threading import Event, Lock

from pico_analyze.components.spec import COMPONENTS
from pico_analyze.engine.compute import Tally, Work, run_jobs
from pico_analyze.engine.plan import Job
from pico_analyze.questions.question import Question
from pico_analyze.table.columns import Row

_Place = tuple[int, str, str | None, str]
_SHAREABLE = ("pico", "transformers")
"""Kinds of runs that several threads may read at once."""


def ordered(jobs: Sequence[Job], questions: Sequence[Question]) -> list[list[Job]]:
    """The jobs in groups that share no tensor (most often a layer, or a site of it), each step by step."""
    parent: dict[_Place, _Place] = {}

    def root(place: _Place) -> _Place:
        parent.setdefault(place, place)
        while parent[place] != place:
            parent[place] = place = parent[parent[place]]
        return place

    needed = [_places(job, questions[job.question]) for job in jobs]
    for places in needed:
        for place in places[1:]:
            parent[root(place)] = root(places[0])
    groups: dict[_Place, list[Job]] = {}
    for job, places in zip(jobs, needed, strict=True):
        groups.setdefault(root(places[0]), []).append(job)
    return [sorted(group, key=lambda job: (job.x.store, job.x.step, job.question)) for group in groups.values()]


def _places(job: Job, question: Question) -> list[_Place]:
    """Where the tensors of a job lie, whatever the step."""
    component = COMPONENTS.get(question.component.name)
    return [
        (side.store, data, None if data == "weights" else question.split, site)
        for side in (job.x, job.y)
        if side is not None
        for data, site in component.needs(question.data, side.unit)
    ]


_WORK: Work | None = None


def _begin(work: Work) -> None:
    global _WORK
    _WORK = work


def _carry_out(jobs: Sequence[Job]) -> tuple[list[Row], Tally, int]:
    assert _WORK is not None
    tally = Tally()
    return [row for rows in run_jobs(_WORK, jobs, tally) for row in rows], tally, len(jobs)


def compute(
    work: Work,
    jobs: Sequence[Job],
    tally: Tally,
    *,
    processes: int = 1,
    threads: int = 1,
    emit: Callable[[list[Row], int], None],
) -> None:
    """Carry out jobs, in this process or in several.

    Args:
        work: Runs, questions and the memory bound, which is shared among the processes.
        jobs: What to do, in any order.
        tally: Filled with what was done.
        processes: How many to use; 1 stays in this one.
        threads: How many to use in this process, where the runs can be read by several (those on disk can).
        emit: Called with rows of complete jobs and their number.
    """
    groups = ordered(jobs, work.questions)
    if processes <= 1 or len(jobs) < 2:
        if threads > 1 and len(groups) > 1 and all(store.kind in _SHAREABLE for store in work.stores):
            _in_threads(work, groups, tally, threads, emit)
            return
        for group in groups:
            for rows in run_jobs(work, group, tally):
                emit(rows, 1)
        return
    groups = _enough(groups, processes)
    share = Work(work.locations, work.options, work.questions, work.memory / processes)
    with (
        _threads_per_process(max(1, (os.cpu_count() or 1) // processes)),
        ProcessPoolExecutor(processes, get_context("spawn"), initializer=_begin, initargs=(share,)) as pool,
    ):
        futures = [pool.submit(_carry_out, group) for group in groups]
        try:
            for future in as_completed(futures):
                rows, done, count = future.result()
                tally.add(done)
                emit(rows, count)
        except BaseException:
            for future in futures:
                future.cancel()
            raise


def _in_threads(
    work: Work, groups: list[list[Job]], tally: Tally, threads: int, emit: Callable[[list[Row], int], None]
) -> None:
    """Each group in one thread (no matrix is shared); numpy and LAPACK let the others run meanwhile."""
    share = Work(work.locations, work.options, work.questions, work.memory / threads)
    share.__dict__["stores"] = work.stores
    lock, stop = Lock(), Event()

    def carry_out(group: list[Job]) -> None:
        own = Tally()
        for rows in run_jobs(share, group, own):
            with lock:
                emit(rows, 1)
            if stop.is_set():
                return
        with lock:
            tally.add(own)

    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(carry_out, group) for group in groups]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            stop.set()
            for future in futures:
                future.cancel()
            raise


def _enough(groups: list[list[Job]], processes: int) -> list[list[Job]]:
    """Groups divided until every process has one; what the parts share is then read by each."""
    while len(groups) < processes:
        largest = max(groups, key=len)
        if len(largest) < 2:
            break
        groups.remove(largest)
        half = len(largest) // 2
        groups += [largest[:half], largest[half:]]
    return groups


@contextmanager
def _threads_per_process(count: int) -> Iterator[None]:
    """Processes begun inside use so many threads each, so that together they do not outnumber the cores."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update({name: before[name] or str(count) for name in names})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
