"""Tests run against a fault: each in a forked process that has the libraries loaded already, and nothing of ours.

A fault exists in the memory of one process alone: files stay as they are, and a run that dies leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.machinery
import importlib.util
import json
import os
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

# What is imported anew in each process: a package, and those that stand upon it.
ANEW = {
    "pico_schema": ("pico_schema", "pico_train", "pico_analyze", "pico_conformance"),
    "pico_train": ("pico_train", "pico_conformance"),
    "pico_analyze": ("pico_analyze", "pico_conformance"),
}
KILLED, SURVIVED, TIMED_OUT = "killed", "survived", "timed out"


@dataclass(frozen=True)
class Trial:
    """One fault and the tests that should notice it."""

    package: Path  # the folder in which the tests are run
    module: str
    path: Path
    source: str
    tests: list[str]
    seconds: float  # that the tests take without it


@dataclass
class _Running:
    trial: Trial
    key: object
    until: float = field(default=0.0)


def load_libraries(package: Path, name: str, tests: Iterable[str]) -> None:
    """Import in this process what these tests import, but for `name`: the processes forked from it have it."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _run(package, ["--collect-only", *tests], lambda: os.write(writing, json.dumps(sorted(sys.modules)).encode()))
    os.close(writing)
    with os.fdopen(reading) as pipe:
        names = json.loads(pipe.read())
    os.waitpid(child, 0)
    own = {file.stem for file in (package / "tests").rglob("*.py")} | {"tests", "support", "_pytest", "pytest"}
    for module in names:
        if module.partition(".")[0] in own.union(ANEW[name]):
            continue
        with contextlib.suppress(Exception):  # some modules may only be imported in their own way
            importlib.import_module(module)
    gc.collect()
    gc.freeze()  # what is loaded now is not looked through in each of the processes


def sound(package: Path, tests: Iterable[str], at_once: int) -> dict[str, float]:
    """Seconds of each of these tests that passes here without any fault: the others would notice faults that are none.

    A test may pass by itself and fail here, where libraries are loaded already and processes are forked.
    """
    files: dict[str, list[str]] = {}
    for test in tests:
        files.setdefault(test.partition("::")[0], []).append(test)
    waiting = sorted(files.values(), key=len)
    passed: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        running: dict[int, Path] = {}
        while waiting or running:
            while waiting and len(running) < at_once:
                written = Path(folder) / f"{len(waiting)}.json"
                running[_start_control(package, waiting.pop(), written)] = written
            process, _ = os.waitpid(-1, 0)
            written = running.pop(process, None)
            if written is not None and written.exists():
                passed |= json.loads(written.read_text())
    return passed


def _start_control(package: Path, tests: list[str], written: Path) -> int:
    child = os.fork()
    if child:
        return child
    os.setpgid(0, 0)
    os.environ["PICO_TIMINGS"] = str(written)
    _run(package, ["-p", "timings", *tests])
    raise AssertionError("a forked process ends in _run")


def run(trials: Iterable[tuple[object, Trial]], at_once: int) -> Iterator[tuple[object, str]]:
    """Outcome of each trial, in the order in which they end."""
    waiting = deque(trials)
    running: dict[int, _Running] = {}
    while waiting or running:
        while waiting and len(running) < at_once:
            key, trial = waiting.popleft()
            limit = time.monotonic() + 20 + 8 * trial.seconds
            running[_start(trial)] = _Running(trial, key, limit)
        for process in list(running):
            ended, status = os.waitpid(process, os.WNOHANG)
            late = time.monotonic() > running[process].until
            if not ended and not late:
                continue
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process, signal.SIGKILL)
            if not ended:
                os.waitpid(process, 0)
            one = running.pop(process)
            yield one.key, TIMED_OUT if not ended else SURVIVED if status == 0 else KILLED
        time.sleep(0.01)


def _start(trial: Trial) -> int:
    child = os.fork()
    if child:
        with contextlib.suppress(OSError):
            os.setpgid(child, child)
        return child
    os.setpgid(0, 0)
    sys.meta_path.insert(0, _Replaced(trial))
    _run(trial.package, ["-x", *trial.tests])
    raise AssertionError("a forked process ends in _run")


def _run(package: Path, arguments: list[str], then: Callable[[], object] = lambda: None) -> None:
    """Run pytest in a forked process and end it; 0 where all tests passed."""
    code = 70
    try:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        os.chdir(package)
        sys.path.insert(0, str(package))
        sys.dont_write_bytecode = False  # test files are compiled once
        import pytest
        from hypothesis import HealthCheck, settings

        settings.register_profile(
            "mutants", max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck)
        )  # as many examples as the quick tier has
        plain = ["-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:cov", "--hypothesis-profile=mutants"]
        code = int(pytest.main([*plain, *arguments]))
        then()
    finally:
        os._exit(code)


class _Replaced(importlib.machinery.PathFinder):
    """Gives one module with the source of a trial."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial

    def find_spec(self, fullname, path=None, target=None):  # type: ignore[override]  # noqa: ARG002 - Python's signature
        if fullname != self.trial.module:
            return None
        path = self.trial.path
        return importlib.util.spec_from_file_location(
            fullname,
            path,
            loader=_Loader(fullname, str(path), self.trial.source),
            submodule_search_locations=[str(path.parent)] if path.stem == "__init__" else None,
        )


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, fullname: str, path: str, source: str) -> None:
        super().__init__(fullname, path)
        self.source = source

    def get_code(self, fullname):  # noqa: ARG002 - Python's signature
        return compile(self.source, self.path, "exec", dont_inherit=True)
