"""What a worker does with a batch, wherever it runs: open the runs, compute, leave each task's rows as a part.

A worker is a thread of this process, a process of this machine, or a Dask worker on another one. What it is sent
(`Work` and a batch) and what comes back (`Done`) is plain data. Rows are written by the worker itself, a part per task,
so that what is done stays done whoever dies; where it does not see the table, or its disk is full, they are sent back
and written by the command.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Lock

from pico_analyze.engine.compute import rows_of
from pico_analyze.engine.tasks import Task
from pico_analyze.engine.versions import package_version
from pico_analyze.engine.work import Done, Work
from pico_analyze.errors import PicoAnalyzeError, StorageError, WorkerError
from pico_analyze.stores.base import Store
from pico_analyze.stores.in_turn import InTurn
from pico_analyze.stores.opening import open_store
from pico_analyze.stores.spec import STORES
from pico_analyze.table import store as tables
from pico_analyze.table.columns import Row
from pico_analyze.table.rows_file import part_content


def may_be_shared(store: Store) -> bool:
    """Whether several threads may read this run at once."""
    return STORES.get(store.kind).thread_safe


def for_threads(stores: Sequence[Store]) -> tuple[Store, ...]:
    """The runs, such that several threads may read them: those that cannot be shared are asked in turn."""
    return tuple(store if may_be_shared(store) else InTurn(store) for store in stores)


_opened: dict[int, tuple[Store, ...]] = {}
_opening = Lock()


def _stores(work: Work) -> tuple[Store, ...]:
    """The runs of the command, opened once in this process and compared with what the command saw."""
    if work.here is not None:
        return work.here.stores
    with _opening:
        if work.started not in _opened:
            _opened.clear()  # those of an earlier command
            _one_blas_thread()
            _opened[work.started] = for_threads(check(work))
        return _opened[work.started]


def _one_blas_thread() -> None:
    """One BLAS thread in this process of workers, for good: values would depend on their number, and small matrices
    are slower with more. In the command's own process its executor sees to that."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(1, user_api="blas")


def check(work: Work) -> list[Store]:
    """Open the runs as a worker sees them.

    Raises:
        WorkerError: another version is installed here, or a run is not here, or not the one that the command sees.
    """
    for package, wanted in work.versions.items():
        if (found := package_version(package)) != wanted:
            raise WorkerError(
                f"it has {package} {found}, the command {wanted}: install the same version, since rows of two versions "
                "are not one table"
            )
    return [_seen(work, index) for index in range(len(work.locations))]


def _seen(work: Work, index: int) -> Store:
    location = work.locations[index]
    shared = "name a file system that all machines share, or a run on the Hub"
    try:
        store = open_store(location, work.options)
        digests = {info.step: info.digest for info in store.steps()}
    except PicoAnalyzeError as error:
        raise WorkerError(f"it cannot see the run {location} ({error}): {shared}") from None
    for step, digest in work.checkpoints[index].items():
        if digests.get(step) != digest:
            what = "does not have" if step not in digests else "has another"
            raise WorkerError(f"{location} there {what} checkpoint of step {step}: {shared}")
    return store


def carry_out(work: Work, batch: Sequence[Task]) -> Done:
    """Compute a batch; tasks whose part is there already (left by a worker that died) are not computed again.

    Raises:
        WorkerError: this worker has other versions, or does not see a run.
        PicoAnalyzeError: what reading, components and metrics raise.
    """
    stores, done = _stores(work), Done()
    if work.here is not None and work.here.stop.is_set():
        return done
    left = [task for task in batch if not _is_there(work, task)]
    done.tasks = len(batch) - len(left)
    if work.here is not None and done.tasks:
        work.here.told(done.tasks)
    marked = [table for table in (work.tables or {}).values() if tables.is_current(table, work.started)]
    computed = rows_of(left, stores, work.questions, memory=work.memory, tally=done.tally)
    for task, rows in computed:
        if _is_over(work, marked):
            break
        _keep(work, task, rows, done)
        done.tasks += 1
        if work.here is not None:
            work.here.told(1)
            if work.here.stop.is_set():
                break
    return done


def _is_over(work: Work, marked: Sequence[Path]) -> bool:
    """Whether the command has ended while the last task was computed: its rows are then no one's."""
    if work.here is not None:
        return work.here.gone.is_set()
    return not all(tables.is_current(table, work.started) for table in marked)


def _is_there(work: Work, task: Task) -> bool:
    return work.tables is not None and tables.part_path(work.tables[task.store], work.part(task)).is_file()


def _keep(work: Work, task: Task, rows: list[Row], done: Done) -> None:
    """Leave the rows where they belong, or send them back."""
    if not rows:
        return
    content, name = part_content(rows), work.part(task)
    if work.tables is not None and tables.is_current(work.tables[task.store], work.started):
        try:
            tables.write_part(work.tables[task.store], name, content)
        except StorageError:  # this machine's disk may be full and the command's not
            pass
        else:
            return
    done.unwritten.append((task.store, name, content))
