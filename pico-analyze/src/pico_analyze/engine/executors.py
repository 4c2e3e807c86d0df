"""Where tasks are carried out: threads of this process, processes of this machine, or a Dask cluster.

Each is a `concurrent.futures.Executor` that is given batches; what a batch is, and how it is done, is decided in
`tasks.py` and `worker.py`. Executors differ in nothing but where they run: rows are the same, bit for bit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from threading import Event, Lock
from typing import Any, TypeVar

from pico_analyze.counting import counted
from pico_analyze.engine.signals import begin_tracker, end_now, held_back, obey_parent
from pico_analyze.engine.tasks import Task, batched
from pico_analyze.engine.work import Done, Here, Opening, Work, Workers, shared_among
from pico_analyze.errors import WorkerError
from pico_analyze.stores.base import Store

T = TypeVar("T")
P = TypeVar("P", bound=Executor)

_THREADS = "pico-analyze"
_RESTARTS = 2
"""How often worker processes that were killed are begun again."""
_AT_MOST = 32
"""Tasks of a batch that goes to another process: what is done is known batch by batch."""


CarryOut = Callable[[Work, Sequence[Task]], Done]
"""`carry_out(work, batch)`, importable by name in other processes."""


def carry_out_all(
    work: Work,
    tasks: Sequence[Task],
    open_workers: Opening,
    *,
    carry_out: CarryOut,
    stores: tuple[Store, ...],
    finished: Callable[[Done, int], None],
) -> None:
    """Carry out tasks on whatever workers there are.

    Args:
        work: What workers must know.
        tasks: What to do.
        open_workers: A context manager that starts or reaches the workers.
        carry_out: Carries out a batch, on a worker.
        stores: The runs, open in this process, such that threads may share them.
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
                _one_round(work, left, workers, stores, carry_out, finished)
            return
        except BrokenExecutor:
            if attempt == _RESTARTS:
                raise WorkerError(
                    f"worker processes were killed {counted(_RESTARTS + 1, 'time')} (out of memory? take "
                    f"fewer --jobs, or less --memory): {_kept(len(tasks) - len(left), len(tasks))}"
                ) from None


def _kept(done: int, n_tasks: int) -> str:
    return f"{done} of {counted(n_tasks, 'task')} done and kept, and the same command goes on from there"


def _one_round(
    work: Work,
    left: dict[str, Task],
    workers: Workers,
    stores: tuple[Store, ...],
    carry_out: CarryOut,
    finished: Callable[[Done, int], None],
) -> None:
    """Submit what is left, and take what comes; `left` loses what is done."""
    stop, gone, lock, n_tasks = Event(), Event(), Lock(), len(left)

    def told(count: int) -> None:
        try:
            with lock:
                finished(Done(), count)
        except BaseException:
            stop.set()  # before another batch is begun
            raise

    work = shared_among(work, workers.per_machine or workers.count)
    if workers.in_process:
        work = replace(work, here=Here(stores, stop, gone, told))
    at_most = None if workers.in_process else _AT_MOST
    batches = batched(list(left.values()), work.questions, workers=workers.count, at_most=at_most)
    futures: dict[Future[Done], tuple[Task, ...]] = {}
    losses: list[BaseException] = []
    try:
        futures.update((workers.executor.submit(carry_out, work, batch), batch) for batch in batches)
        for future in as_completed(futures):
            done = _result(future, workers.lost, losses)
            if done is None:
                continue
            with lock:
                finished(done, 0 if workers.in_process else done.tasks)
            for task in futures[future]:
                left.pop(task.digest, None)
    except BaseException as error:
        _stop(stop, gone, error, futures)
        raise
    if losses:
        what = (str(losses[0]).strip() or type(losses[0]).__name__).splitlines()[0][:200]
        raise WorkerError(f"{workers.name} lost a worker, or was lost ({what}): {_kept(n_tasks - len(left), n_tasks)}")


def _stop(stop: Event, gone: Event, error: BaseException, futures: Iterable[Future[Done]]) -> None:
    """Begin nothing further. What is being computed is waited for, unless a person or the system ended the command:
    then whoever opened the pool ends it."""
    stop.set()
    if _interrupts(error):
        gone.set()  # before BLAS has its threads back: values would depend on their number
        return
    for future in futures:
        future.cancel()


def _interrupts(error: BaseException) -> bool:
    return not isinstance(error, Exception)


def _result(future: Future[Done], lost: tuple[type[BaseException], ...], losses: list[BaseException]) -> Done | None:
    """What came of a batch; None, and the loss noted, if its worker was lost."""
    try:
        return future.result()
    except lost as error:
        losses.append(error)
        return None


def threads(count: int) -> Opening:
    """So many threads of this process, with one BLAS thread each while they compute."""

    @contextmanager
    def opened(_: Work) -> Iterator[Workers]:
        from threadpoolctl import threadpool_limits

        # In the thread that waits for them: OpenBLAS obeys one thread alone.
        with threadpool_limits(1, user_api="blas"), _left(ThreadPoolExecutor(count, _THREADS)) as pool:
            yield Workers(pool, count, in_process=True)

    return opened


def processes(count: int) -> Opening:
    """So many processes of this machine."""

    @contextmanager
    def opened(_: Work) -> Iterator[Workers]:
        with process_pool(count) as pool:
            yield Workers(pool, count)

    return opened


@contextmanager
def process_pool(count: int) -> Iterator[Processes]:
    """So many processes, with one BLAS thread each unless they set another number; what they do is waited for when the
    block ends, but not when it is interrupted."""
    with _blas_threads(1), _left(Processes(count)) as pool:
        yield pool


class Processes(ProcessPoolExecutor):
    """Processes that begin, and end, when the command wants it, whatever signals come."""

    def __init__(self, count: int) -> None:
        begin_tracker()
        super().__init__(count, get_context("spawn"), obey_parent)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Begins a process where there are not enough yet."""
        with held_back():
            return super().submit(fn, *args, **kwargs)

    def end_now(self) -> None:
        """Not wait for what is being computed."""
        end_now(list((self._processes or {}).values()))


@contextmanager
def _left(pool: P) -> Iterator[P]:
    """A pool whose work is waited for when the block ends, but not when it is interrupted."""
    try:
        yield pool
    except BaseException as error:
        interrupted = _interrupts(error)
        if interrupted and isinstance(pool, Processes):
            pool.end_now()
        pool.shutdown(wait=not interrupted, cancel_futures=True)
        raise
    pool.shutdown()


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
