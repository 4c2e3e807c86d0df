"""Fixtures: synthetic runs on disk, made once per session, and the command line in this process."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from synthetic import make_run

from pico_analyze.cli import app

# How long an example takes says nothing on a machine that does other things as well.
settings.register_profile("quick", deadline=None, max_examples=25)
settings.register_profile("thorough", deadline=None, max_examples=200)
settings.load_profile("quick")


@pytest.fixture(scope="module", autouse=True)
def _drawn_from(request: pytest.FixtureRequest) -> tuple[np.random.Generator, Mapping[str, Any]] | None:
    """A module's `RNG`, and its state before the first of its tests."""
    rng = getattr(request.module, "RNG", None)
    return None if rng is None else (rng, rng.bit_generator.state)


@pytest.fixture(autouse=True)
def _same_numbers(_drawn_from: tuple[np.random.Generator, Mapping[str, Any]] | None) -> None:
    """Each test draws the same numbers, whichever tests this process ran before it."""
    if _drawn_from is not None:
        rng, state = _drawn_from
        rng.bit_generator.state = state


def pytest_configure(config: pytest.Config) -> None:
    """More examples of each property with `--slow`.

    A runner in the background (`nohup`, a script's `&`) ignores Ctrl-C, and so would all that tests start.
    """
    if config.getoption("slow", False) and not config.getoption("hypothesis_profile"):
        settings.load_profile("thorough")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of five checkpoints; not to be changed."""
    return make_run(tmp_path_factory.mktemp("finished") / "runs")


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with a folder `runs`, for runs that a test makes or damages."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


@dataclass
class Answer:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one sentence that says what went wrong."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        return lines[0]


@pytest.fixture
def pico(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Run `pico-analyze` with arguments, as the shell would."""

    def call(*arguments: object) -> Answer:
        monkeypatch.setattr("sys.argv", ["pico-analyze", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            app.main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        code = ended.value.code
        return Answer(code if isinstance(code, int) else 0, captured.out, captured.err)

    return call


@pytest.fixture(autouse=True, scope="session")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Caches of the tests' own, for commands that they start too."""
    folder = tmp_path_factory.mktemp("caches")
    os.environ["PICO_CACHE"] = str(folder)
    return folder
