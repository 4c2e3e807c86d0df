"""A Dask cluster on this machine, started as the documentation says: `dask scheduler`, `dask worker`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

DASK = Path(sys.executable).with_name("dask")


class Cluster:
    """A scheduler and workers of one thread each, on 127.0.0.1; all are ended with the block."""

    def __init__(self, folder: Path, workers: int = 2, *, nanny: bool = True, path: str = "") -> None:
        self.folder, self._n_workers, self._nanny = folder, workers, nanny
        self._path = os.pathsep.join(filter(None, (str(Path(__file__).parent), path)))  # damage.py, and what is given
        self.scheduler: subprocess.Popen[bytes] | None = None
        self._started: list[subprocess.Popen[bytes]] = []
        self.address = ""

    def __enter__(self) -> Cluster:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.scheduler = self._start("scheduler", "--port", "0", "--scheduler-file", "scheduler.json")
        self.address = self._address()
        if self._n_workers:
            self.add(self._n_workers)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None):
        for process in reversed(self._started):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{words[0]}-{len(self._started)}.log").open("wb")
        command = [str(DASK), *words, "--host", "127.0.0.1", "--no-dashboard"]
        environment = os.environ | {"PYTHONPATH": self._path}
        process = subprocess.Popen(
            command, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        self._started.append(process)
        return process

    def _address(self) -> str:
        import json

        def written() -> str | None:
            with contextlib.suppress(OSError, ValueError):
                return str(json.loads((self.folder / "scheduler.json").read_text())["address"])
            return None

        return wait_for(written)

    def add(self, workers: int) -> None:
        """Start further workers."""
        more = ("--nworkers", str(workers), "--nthreads", "1")
        self._start("worker", self.address, *more, "--nanny" if self._nanny else "--no-nanny")

    @contextlib.contextmanager
    def client(self) -> Iterator[object]:
        """A client of one's own, to look at workers and to damage them."""
        from distributed import Client

        client = Client(self.address, set_as_default=False)
        try:
            client.wait_for_workers(self._n_workers, timeout=60)
            yield client
        finally:
            client.close(timeout=2)

    def worker_pids(self) -> dict[str, int]:
        """Process of each worker, by its address."""
        with self.client() as client:
            return client.run(os.getpid)  # type: ignore[attr-defined,no-any-return]


def wait_for(what: Callable[[], object], seconds: float = 60.0):
    """The first value of `what()` that counts as true.

    Raises:
        TimeoutError: there is none for so many seconds.
    """
    until = time.monotonic() + seconds
    while not (found := what()):
        if time.monotonic() > until:
            raise TimeoutError(f"{what} for {seconds:.0f} s")
        time.sleep(0.02)
    return found
