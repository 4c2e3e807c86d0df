"""Where tasks are carried out: threads of this process, processes of this machine, or a Dask cluster.

Each is a `concurrent.futures.Executor` that is given batches; what a batch is, and how it is done, is decided in
`tasks.py` and `worker.py`. Executors differ in nothing but where they run: rows are the same, bit for bit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from threading import Event, Lock

from pico_analyze.engine.tasks import Task, batched
from pico_analyze.engine.worker import Done, Here, Work, carry_out, for_threads, shared_among
from pico_analyze.engine.workers import Opening, Workers
from pico_analyze.errors import WorkerError
from pico_analyze.stores.base import Store

_RESTARTS = 2
"""How often worker processes that were killed are begun again."""
_AT_MOST = 32
"""Tasks of a batch that goes to another process: what is done is known batch by batch."""


def carry_out_all(
    work: Work,
    tasks: Sequence[Task],
    open_workers: Opening,
    stores: Sequence[Store],
    *,
    finished: Callable[[Done, int], None],
) -> None:
    """Carry out tasks on whatever workers there are.

    Args:
        work: What workers must know.
        tasks: What to do.
        open_workers: A context manager that starts or reaches the workers.
        stores: The runs, open in this process.
        finished: Called, never twice at a time, with what came of a batch (nothing, where tasks are told one by one),
            and the number of tasks that this completes.

    Raises:
        WorkerError: workers cannot be reached, do not fit, or were lost; the rest was carried out.
        PicoAnalyzeError: what a task raises; those that are running are waited for, the others are not begun.
    """
    left = {task.digest: task for task in tasks}
    for attempt in range(_RESTARTS + 1):
        try:
            with open_workers(work) as workers:
                _one_round(work, left, workers, stores, finished)
            return
        except BrokenExecutor:
            if attempt == _RESTARTS:
                raise WorkerError(
                    f"worker processes were killed {_RESTARTS + 1} times (out of memory? take fewer --jobs, or less "
                    f"--memory): {_kept(tasks, left)}"
                ) from None


def _kept(tasks: Sequence[Task], left: dict[str, Task]) -> str:
    return f"{len(tasks) - len(left)} of {len(tasks)} tasks are done and kept, and the same command goes on from there"


def _one_round(
    work: Work,
    left: dict[str, Task],
    workers: Workers,
    stores: Sequence[Store],
    finished: Callable[[Done, int], None],
) -> None:
    """Submit what is left, and take what comes; `left` loses what is done."""
    work, stop, lock = shared_among(work, workers.count), Event(), Lock()

    def told(count: int) -> None:
        try:
            with lock:
                finished(Done(), count)
        except BaseException:
            stop.set()  # before another batch is begun
            raise

    if workers.in_process:
        work = replace(work, here=Here(for_threads(stores), stop, told))
    n_tasks, lost = len(left), None
    at_most = None if workers.in_process else _AT_MOST
    batches = batched(list(left.values()), work.questions, workers=workers.count, at_most=at_most)
    futures: dict[Future[Done], tuple[Task, ...]] = {}
    try:
        for batch in batches:
            futures[workers.executor.submit(carry_out, work, batch)] = batch
        for future in as_completed(futures):
            try:
                done = future.result()
            except workers.lost as error:
                lost = error
                continue
            with lock:
                finished(done, 0 if workers.in_process else done.tasks)
            for task in futures[future]:
                left.pop(task.digest, None)
    except BaseException:
        stop.set()
        for future in futures:
            future.cancel()
        raise
    if lost is not None:
        what = str(lost).strip() or type(lost).__name__
        raise WorkerError(
            f"{workers.name}: a worker was lost ({what.splitlines()[0][:200]}): {n_tasks - len(left)} of {n_tasks} "
            "tasks are done and kept, and the same command goes on from there"
        )


def threads(count: int) -> Opening:
    """So many threads of this process."""

    @contextmanager
    def opened(_: Work) -> Iterator[Workers]:
        with ThreadPoolExecutor(count, thread_name_prefix="pico-analyze") as pool:
            yield Workers(pool, count, in_process=True)

    return opened


def processes(count: int) -> Opening:
    """So many processes of this machine."""

    @contextmanager
    def opened(_: Work) -> Iterator[Workers]:
        with _blas_threads(1), ProcessPoolExecutor(count, get_context("spawn")) as pool:
            yield Workers(pool, count)

    return opened


@contextmanager
def _blas_threads(count: int) -> Iterator[None]:
    """Processes begun inside use so many BLAS threads each, also while they are still importing."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, str(count)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
