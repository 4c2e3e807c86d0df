"""Keeps a worker process at work: starts it, kills it when it hangs, starts it again when it died.

An event of the worker says how many seconds may pass until the next one; a worker that is silent for longer is killed.
That bounds everything the client does, also where it has no time limit. What was half done is seen by the next worker
when it reads what the Hub holds.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pico_train.publish.queue import FOLDER, make_directories

Event = dict[str, Any]
STARTING = 120.0
"""Seconds that a worker may take to start."""
LOG_LIMIT = 1 << 20
FINAL = ("finished", "denied", "unreachable")


class Supervisor:
    """One job, done by as many worker processes as it takes.

    Args:
        job: What the worker is to do, as JSON.
        log_dir: Where the worker's stderr goes; the run's directory.
        on_event: Called with each event, on the thread that calls `run`.
        restart_wait: Seconds before a worker that died or hung is replaced.
        max_restarts: Give up after this many.
    """

    def __init__(
        self,
        job: Mapping[str, Any],
        log_dir: Path | None,
        on_event: Callable[[Event], None],
        *,
        restart_wait: float = 1.0,
        max_restarts: int | None = None,
    ) -> None:
        self.job, self.log_dir, self.on_event = dict(job), log_dir, on_event
        self.restart_wait, self.max_restarts = restart_wait, max_restarts
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._finishing = self._stopping = False

    def run(self) -> Event:
        """Work until the job is done; returns the last event: finished, denied, unreachable, or stopped."""
        restarts = 0
        while not self._stopping:
            last = self._one_worker()
            if last["event"] in FINAL or self._stopping:
                return last
            restarts += 1
            if self.max_restarts is not None and restarts > self.max_restarts:
                return {"event": "unreachable", "error": last.get("error", "the publisher died"), "exit_code": 4}
            self.on_event(last)
            time.sleep(self.restart_wait)
        return {"event": "stopped"}

    def tell(self, order: str) -> None:
        """Pass `wake` or `finish` to the worker; a worker started later is told to finish as well."""
        with self._lock:
            self._finishing = self._finishing or order == "finish"
            self._write(order)

    def stop(self) -> None:
        """Kill the worker; what it has not finished stays pending."""
        with self._lock:
            self._stopping = True
            if self._process is not None:
                self._process.kill()

    @property
    def pid(self) -> int | None:
        """Process id of the worker that is at work."""
        return self._process.pid if self._process else None

    def _write(self, line: str) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError, ValueError):
                self._process.stdin.write(line + "\n")
                self._process.stdin.flush()

    def _one_worker(self) -> Event:
        """Start a worker and pass its events on, until it ends or has to be killed."""
        events: queue.Queue[Event | None] = queue.Queue()
        with self._log() as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "pico_train.publish.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=_environment(),
            )
        with self._lock:
            self._process = process
            self._write(json.dumps(self.job))
            if self._finishing:
                self._write("finish")
            if self._stopping:
                process.kill()
        threading.Thread(target=_read_events, args=(process, events), daemon=True).start()
        allowed: float | None = STARTING
        try:
            while True:
                try:
                    event = events.get(timeout=allowed)
                except queue.Empty:
                    return {"event": "hung", "error": f"nothing came of it within {allowed:.0f} s"}
                if event is None:
                    return {"event": "died", "error": f"the publishing process died with code {process.wait()}"}
                if event["event"] in FINAL:
                    return event
                self.on_event(event)
                if "allowed" in event:
                    allowed = event["allowed"]
        finally:
            with self._lock:
                self._process = None
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError, ValueError):
                    if pipe is not None:
                        pipe.close()

    def _log(self) -> contextlib.AbstractContextManager[Any]:
        if self.log_dir is None:
            return contextlib.nullcontext(subprocess.DEVNULL)
        folder = self.log_dir / FOLDER
        make_directories(self.log_dir, folder)
        path = folder / "worker.log"
        too_long = path.is_file() and path.stat().st_size > LOG_LIMIT
        return path.open("w" if too_long else "a")


def _read_events(process: subprocess.Popen[str], events: queue.Queue[Event | None]) -> None:
    assert process.stdout is not None
    with contextlib.suppress(OSError, ValueError):
        for line in process.stdout:
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict) and isinstance(event.get("event"), str):
                    events.put(event)
    events.put(None)


def _environment() -> dict[str, str]:
    """The worker's environment: the caller's, without what would make the client chatty or start threads early."""
    return {
        **os.environ,
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",
    }
