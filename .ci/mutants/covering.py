"""Which tests run which lines, and how long each test takes: one run of a package's suite under coverage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from coverage import CoverageData

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Covering:
    """Tests by file and line, and their durations in seconds."""

    by_line: dict[str, dict[int, frozenset[str]]]
    seconds: dict[str, float]

    def tests(self, path: Path, line: int, at_most: float) -> list[str]:
        """Tests that run a line, the quickest first, as many as fit into `at_most` seconds and one in any case.

        A line that is run on importing the file alone (a constant, a default, a decorator) is covered by every test
        that runs any line of the file, and by every test where none does: such a file has constants and classes alone.
        """
        lines = self.by_line.get(str(path), {})
        found = lines.get(line) or frozenset().union(*lines.values()) or self.seconds
        chosen: list[str] = []
        spent = 0.0
        for test in sorted(found, key=lambda one: (self.seconds[one], one)):
            spent += self.seconds[test]
            if chosen and spent > at_most:
                break
            chosen.append(test)
        return chosen

    def of(self, seconds: dict[str, float]) -> Covering:
        """The same lines with these tests only."""
        by_line = {
            file: {line: tests & seconds.keys() for line, tests in lines.items() if tests & seconds.keys()}
            for file, lines in self.by_line.items()
        }
        return Covering(by_line, seconds)


def measure(package: Path, name: str, suite: Iterable[str], keep: Path) -> Covering:
    """Run a package's tests under coverage.

    Args:
        package: The folder that has `src` and `tests`.
        name: The package as it is imported.
        suite: Files and folders of tests, relative to `package`.
        keep: Where data are kept: a second call with the same folder reads them.
    """
    keep.mkdir(parents=True, exist_ok=True)
    data, timings = keep / "coverage", keep / "seconds.json"
    if not timings.exists():
        found = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "COVERAGE_FILE": str(data), "PICO_TIMINGS": str(timings), "PYTHONPATH": found}
        subprocess.run(
            [
                sys.executable,
                *f"-m pytest -p timings -n 2 --cov={name} --cov-context=test --cov-report=".split(),
                *suite,
            ],
            cwd=package,
            env=environment,
            check=False,  # a test that fails is not used, and told of
        )
    seconds: dict[str, float] = json.loads(timings.read_text())
    read = CoverageData(str(data))
    read.read()
    by_line: dict[str, dict[int, frozenset[str]]] = {}
    for file in read.measured_files():
        lines: dict[int, set[str]] = defaultdict(set)
        for line, contexts in read.contexts_by_lineno(file).items():
            lines[line] |= {context.rpartition("|")[0] for context in contexts} & seconds.keys()
        by_line[file] = {line: frozenset(tests) for line, tests in lines.items() if tests}
    return Covering(by_line, seconds)
