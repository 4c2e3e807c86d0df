"""Workers on other machines, through Dask: connect to a scheduler, check every worker, compute there.

Before anything is computed each worker is asked whether it has the same versions and sees the same runs. Workers that
join later are asked the same when they get their first batch. Needs the extra `pico-analyze[dask]`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pico_analyze.engine.work import Opening, Work, Workers
from pico_analyze.errors import UsageError, WorkerError

if TYPE_CHECKING:
    from distributed import Client

CONNECT_SECONDS = 10.0
"""How long a scheduler is waited for."""
WORKER_SECONDS = 30.0
"""How long the first worker is waited for."""


Check = Callable[[Work], object]
"""Importable by name on a worker."""


def cluster(address: str, check: Check) -> Opening:
    """All workers of the Dask scheduler at an address such as ``tcp://host:8786``.

    Args:
        address: The scheduler's.
        check: Raises `WorkerError`, on a worker, if that worker cannot do the work.
    """

    @contextmanager
    def opened(work: Work) -> Iterator[Workers]:
        client = _connect(address)
        try:
            threads = _ready_workers(client, address, work, check)
            executor = client.get_executor(pure=False)  # type: ignore[no-untyped-call]
            try:
                yield Workers(executor, sum(threads), max(threads), lost=_lost(), name=f"the Dask cluster at {address}")
            finally:
                executor.shutdown(wait=False)
        finally:
            client.close(timeout=2)  # type: ignore[no-untyped-call]

    return opened


def _lost() -> tuple[type[BaseException], ...]:
    from distributed.client import FutureCancelledError
    from distributed.comm.core import CommClosedError
    from distributed.scheduler import KilledWorker

    return KilledWorker, FutureCancelledError, CommClosedError, CancelledError


def _connect(address: str) -> Client:
    try:
        from distributed import Client
    except ImportError:
        raise UsageError("--scheduler needs Dask: pip install 'pico-analyze[dask]'") from None
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what goes wrong is told by the errors below
    try:
        _check_address(address)
        return Client(address, timeout=CONNECT_SECONDS, set_as_default=False)  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise UsageError(f"--scheduler {address}: not an address such as tcp://host:8786 ({error})") from None
    except OSError as error:
        raise WorkerError(
            f"no Dask scheduler answers at {address} within {CONNECT_SECONDS:.0f} s ({_first_line(error)}): start one "
            "with `dask scheduler`, and workers with `dask worker ADDRESS`"
        ) from None


def _check_address(address: str) -> None:
    """Raise ValueError before a client waits for what cannot be."""
    from distributed.comm.addressing import parse_address, parse_host_port
    from distributed.comm.registry import get_backend

    scheme, place = parse_address(address)
    get_backend(scheme)
    parse_host_port(place)


def _ready_workers(client: Client, address: str, work: Work, check: Check) -> list[int]:
    """How many batches each machine carries out at a time, once all workers were found fit."""
    from distributed import TimeoutError as NoWorkers

    try:
        client.wait_for_workers(1, timeout=WORKER_SECONDS)
    except NoWorkers:
        raise WorkerError(
            f"the Dask scheduler at {address} has no workers: start some with `dask worker {address}`"
        ) from None
    answers: Mapping[str, Any] = client.run(_trouble, work, check, on_error="return")
    for worker, answer in answers.items():
        if isinstance(answer, ModuleNotFoundError):
            answer = f"it has no {answer.name}: install pico-analyze[dask] there"
        elif isinstance(answer, BaseException):
            answer = f"it cannot be asked ({_first_line(answer)}): install the same pico-analyze there"
        if answer is not None:
            raise WorkerError(f"worker {worker} cannot be used: {answer}")
    machines: Counter[str] = Counter()
    for worker, threads in client.nthreads().items():  # type: ignore[no-untyped-call]
        machines[worker.rpartition(":")[0]] += threads
    return list(machines.values())


def _trouble(work: Work, check: Check) -> str | None:
    """Runs on a worker: what is wrong with it, or None."""
    try:
        check(work)
    except WorkerError as error:
        return str(error)
    return None


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
