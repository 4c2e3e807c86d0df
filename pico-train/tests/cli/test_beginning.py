"""Ctrl-C in the moment in which the command line is still imported."""

from __future__ import annotations

import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

MODULE = "pico_train"
PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
SAYS = "error: interrupted\n"

KILL = "os.kill(os.getpid(), signal.SIGINT); time.sleep(30)"


def begin(folder: Path, content: str, *, ignored: bool = False) -> subprocess.CompletedProcess[str]:
    """`--help`, with `content` in the place of typer."""
    (folder / "typer.py").write_text(f"import os, signal, sys, time\nprint('importing', flush=True)\n{content}")
    program = (
        f"import signal, sys; signal.signal(signal.SIGINT, signal.{'SIG_IGN' if ignored else 'default_int_handler'}); "
        f"sys.path.insert(0, {str(folder)!r}); sys.argv = ['it', '--help']; "
        f"from {MODULE}.__main__ import main; main()"
    )
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    "content",
    [
        f"{KILL}\n",
        f"try:\n    {KILL}\nexcept BaseException: raise ImportError('no')\n",
        f"try:\n    {KILL}\nexcept BaseException: print('survived')\n",
    ],
    ids=["plain", "made an error of", "swallowed"],
)
def test_it_ends_with_one_line_and_130(tmp_path: Path, content: str) -> None:
    done = begin(tmp_path, content)
    assert (done.returncode, done.stdout, done.stderr) == (130, "importing\n", SAYS)


def test_where_it_is_ignored_it_stays_so(tmp_path: Path) -> None:
    done = begin(tmp_path, "os.kill(os.getpid(), signal.SIGINT)\nprint('went on')\nsys.exit(7)\n", ignored=True)
    assert (done.returncode, done.stdout, done.stderr) == (7, "importing\nwent on\n", "")


def test_a_process_that_is_interrupted_from_outside(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(30)\n")
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        f"sys.path.insert(0, {str(tmp_path)!r}); from {MODULE}.__main__ import main; main()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"importing\n"
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=30)
    assert (process.returncode, out, said.decode()) == (130, b"", SAYS)


def test_the_command_and_the_module_begin_there() -> None:
    scripts = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["scripts"]
    assert list(scripts.values()) == [f"{MODULE}.__main__:main"]
    done = subprocess.run([sys.executable, "-m", MODULE, "--help"], capture_output=True, text=True, check=True)
    assert "Usage: " in done.stdout


def test_what_is_imported_before_is_next_to_nothing() -> None:
    """A moment in which Ctrl-C is Python's own is left: it is as short as it can be."""
    program = f"import sys; before = set(sys.modules); import {MODULE}.__main__; print(len(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, check=False)
    if done.returncode:  # an editable package is found by site alone
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 40
