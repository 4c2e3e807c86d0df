"""Ctrl-C in the moment in which the command line is still imported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PYTHONS = {
    "pico_train": os.environ.get("PICO_TRAIN_PYTHON", sys.executable),
    "pico_analyze": os.environ.get("PICO_ANALYZE_PYTHON", sys.executable),
}
pytestmark = pytest.mark.parametrize("module", PYTHONS)
SAYS = "error: interrupted\n"

KILL = "os.kill(os.getpid(), signal.SIGINT); time.sleep(30)"


def begin(module: str, folder: Path, content: str, *, ignored: bool = False) -> subprocess.CompletedProcess[str]:
    """`--help`, with `content` in the place of typer."""
    (folder / "typer.py").write_text(f"import os, signal, sys, time\nprint('importing', flush=True)\n{content}")
    program = (
        f"import signal, sys; signal.signal(signal.SIGINT, signal.{'SIG_IGN' if ignored else 'default_int_handler'}); "
        f"sys.path.insert(0, {str(folder)!r}); sys.argv = ['it', '--help']; "
        f"from {module}.__main__ import main; main()"
    )
    return subprocess.run([PYTHONS[module], "-c", program], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    "content",
    [
        f"{KILL}\n",
        f"try:\n    {KILL}\nexcept BaseException: raise ImportError('no')\n",
        f"try:\n    {KILL}\nexcept BaseException: print('survived')\n",
    ],
    ids=["plain", "made an error of", "swallowed"],
)
def test_it_ends_with_one_line_and_130(module: str, tmp_path: Path, content: str) -> None:
    done = begin(module, tmp_path, content)
    assert (done.returncode, done.stdout, done.stderr) == (130, "importing\n", SAYS)


def test_where_it_is_ignored_it_stays_so(module: str, tmp_path: Path) -> None:
    done = begin(module, tmp_path, "os.kill(os.getpid(), signal.SIGINT)\nprint('went on')\nsys.exit(7)\n", ignored=True)
    assert (done.returncode, done.stdout, done.stderr) == (7, "importing\nwent on\n", "")


def test_a_process_that_is_interrupted_from_outside(module: str, tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(30)\n")
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        f"sys.path.insert(0, {str(tmp_path)!r}); from {module}.__main__ import main; main()"
    )
    with subprocess.Popen([PYTHONS[module], "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"importing\n"
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=30)
    assert (process.returncode, out, said.decode()) == (130, b"", SAYS)


def test_the_command_and_the_module_begin_there(module: str) -> None:
    scripts = tomllib.loads((ROOT / module.replace("_", "-") / "pyproject.toml").read_text(encoding="utf-8"))[
        "project"
    ]["scripts"]
    assert list(scripts.values()) == [f"{module}.__main__:main"]
    done = subprocess.run([PYTHONS[module], "-m", module, "--help"], capture_output=True, text=True, check=True)
    assert "Usage: " in done.stdout


def test_what_is_imported_before_is_next_to_nothing(module: str) -> None:
    """A moment in which Ctrl-C is Python's own is left: it is as short as it can be."""
    program = f"import sys; before = set(sys.modules); import {module}.__main__; print(len(set(sys.modules) - before))"
    done = subprocess.run([PYTHONS[module], "-S", "-c", program], capture_output=True, text=True, check=False)
    if done.returncode:  # an editable package is found by site alone
        done = subprocess.run([PYTHONS[module], "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 40
