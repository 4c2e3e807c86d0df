"""Probes of sealed checkpoints, measured by pico-analyze in a process of its own while the run trains.

pico-train knows of pico-analyze only that it may be installed and how its command is called: `pico-analyze behave RUN
--steps -` reads steps from its input, one a line, as they are sealed, and ends when that ends. The process reads sealed
files alone, so that the run's course is the same with and without it; what fails there is told, and the run goes on.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from pico_train.errors import ConfigError

_COMMAND = (sys.executable, "-P", "-m", "pico_analyze")
_LOWER = 10
"""How much lower its priority is than that of the run."""
_SECONDS = 2.0
"""It may take to end, where the run was told to."""


def check(probes: Sequence[str]) -> None:
    """See, before anything begins, that pico-analyze is there and knows these probes.

    Raises:
        ConfigError: it is not installed, or does not know one; the message is its own.
    """
    if not probes:
        return
    if find_spec("pico_analyze") is None:
        raise ConfigError(
            f"evaluation.probes={list(probes)} are measured by pico-analyze: pip install 'pico-analyze[torch]', or "
            "leave them out"
        )
    for name in probes:
        if name.startswith("-"):
            raise ConfigError(f"evaluation.probes: {name!r} is no name of a probe")
        asked = subprocess.run([*_COMMAND, "probes", name], capture_output=True, text=True, check=False)
        if asked.returncode:
            raise ConfigError(f"evaluation.probes: {_last_line(asked.stderr) or 'pico-analyze does not start'}")


class Probing:
    """A process that measures the steps it is told of.

    Args:
        run_dir: The run.
        probes: What it measures.
        out: Directory in which the run gets its own.
    """

    def __init__(self, run_dir: Path, probes: Sequence[str], out: str) -> None:
        self._run_dir, self._out = run_dir, out
        self.closed = False
        """Whether it was ended."""
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - closed by `close`
        self._process = subprocess.Popen(
            [
                *(*_COMMAND, "behave", str(run_dir), "--steps", "-", "--probe", ",".join(probes), "--out", out),
                *("--device", "cpu", "--format", "csv"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._log,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is the run's, which decides what becomes of it
        )
        with contextlib.suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, self._process.pid, _LOWER)

    def tell(self, step: int) -> None:
        """A step is sealed; one that is measured already costs nothing."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # it has ended: `close` says why
            self._process.stdin.write(f"{step}\n")
            self._process.stdin.flush()

    def close(self, *, wait: bool) -> str:
        """End it, once, and say in one line what came of it.

        Args:
            wait: Until all is measured that it was told of; else what it is at is dropped.
        """
        assert self._process.stdin is not None
        self.closed = True
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.close()
        try:
            if not wait:
                self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):  # then it is killed
                self._process.wait(None if wait else _SECONDS)
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
        self._log.seek(0)
        said = _last_line(self._log.read())
        self._log.close()
        again = f"`pico-analyze behave {self._run_dir} --out {self._out}` goes on from there"
        if not wait:
            return f"probes: stopped; {again}"
        code = self._process.returncode
        return f"probes: {said}" if code == 0 else f"warning: probes failed ({said or f'code {code}'}): {again}"


@contextmanager
def probed(
    run_dir: Path, probes: Sequence[str], out: str, sealed: Sequence[int], say: Callable[[str], None]
) -> Iterator[Probing | None]:
    """Probe while the block runs, and afterwards what is left of it, unless it failed; None without probes.

    Args:
        run_dir: The run.
        probes: What is measured.
        out: Directory in which the run gets its own.
        sealed: Steps that are there already.
        say: Is told what came of it.
    """
    if not probes:
        yield None
        return
    probing = Probing(run_dir, probes, out)
    for step in sealed:
        probing.tell(step)
    try:
        yield probing
    except BaseException:
        if not probing.closed:
            say(probing.close(wait=False))
        raise
    if not probing.closed:
        say(probing.close(wait=True))


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ") if lines else ""
