"""Slow tests are left out, and that is said; named or asked for they run; a line that names none is an error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest
def test_quick(): pass
@pytest.mark.parametrize("case", ["a", "b"])
def test_cases(case): pass
"""
SAID = "slow tests were left out: --slow runs them too"


def called(place: Path, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=100, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("lines", "arguments", "passed", "left_out"),
    [
        ("# none yet\n", [], 3, 0),
        ("test_it.py::test_cases[b]\n", [], 2, 1),
        ("test_it.py::test_cases  # both\n", ["-n", "1"], 1, 2),
        ("test_it.py::test_cases\n", ["--slow"], 3, 0),
        ("test_it.py::test_cases\n", ["tests/test_it.py::test_cases[a]"], 1, 0),
        ("test_it.py::test_gone\n", ["-k", "quick"], 1, 0),
    ],
)
def test_what_is_left_out_is_said(tmp_path: Path, lines: str, arguments: list[str], passed: int, left_out: int) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "tests" / "test_it.py").write_text(TESTS)
    (tmp_path / "tests" / "slow.txt").write_text(lines)
    code, said = called(tmp_path, *arguments)
    assert code == 0 and f"{passed} passed" in said, said
    assert (f"{left_out} {SAID}" in said) == bool(left_out) and (SAID in said) == bool(left_out)


def test_a_line_that_names_no_test_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "tests" / "test_it.py").write_text(TESTS)
    (tmp_path / "tests" / "slow.txt").write_text("test_it.py::test_gone\n")
    code, said = called(tmp_path)
    assert code == pytest.ExitCode.USAGE_ERROR and "tests/slow.txt: there is no test test_it.py::test_gone" in said
