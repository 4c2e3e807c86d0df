"""Two tiers of tests: what is run at each change, and what takes long and is run each night.

`tests/slow.txt` names tests, one a line, as pytest does: a test, or one case of it. They are left out unless `--slow`
is given or they are named by themselves; how many were is said at the end. What is slow is a further case, or a fault
that needs minutes of processes, of something that tests of the first tier try too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

FILE = "tests/slow.txt"
_LEFT_OUT = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--slow`."""
    parser.addoption("--slow", action="store_true", help=f"also the tests that {FILE} names")


def named(file: Path) -> list[str]:
    """The tests that a file names, without comments."""
    if not file.is_file():
        return []
    lines = (line.split(" #")[0].strip() for line in file.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave slow tests out; a line that names none, where all tests of its file were collected, is an error.

    Raises:
        pytest.UsageError: there is no such test (any more).
    """
    slow = named(config.rootpath / FILE)
    nodes = {item.nodeid.removeprefix("tests/"): item for item in items}
    files = {node.split("::")[0] for node in nodes}
    by_itself = any("::" in str(argument) for argument in config.args) or config.option.keyword
    found: list[pytest.Item] = []
    for name in slow:
        cases = (
            [nodes[name]] if name in nodes else [item for node, item in nodes.items() if node.startswith(f"{name}[")]
        )
        if not cases and name.split("::")[0] in files and not by_itself:
            raise pytest.UsageError(f"{FILE}: there is no test {name}")
        found += cases
    left_out = set() if config.getoption("--slow") or by_itself else set(found)
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]
    config.stash[_LEFT_OUT] = len(left_out)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process of xdist tells the one that speaks."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["slow"] = session.config.stash.get(_LEFT_OUT, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """And that one hears it: each of them has the same tests."""
    node.config.stash[_LEFT_OUT] = getattr(node, "workeroutput", {}).get("slow", 0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how many were left out."""
    if count := config.stash.get(_LEFT_OUT, 0):
        terminalreporter.write_line(f"{count} slow tests were left out: --slow runs them too, as `make test-all` does")
