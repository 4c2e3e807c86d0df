"""Publishing a suite: one repository, a branch for each run, and on main the card of the family.

Each run is published as `pico-train publish` does it; one that cannot be does not stop the others. The card follows
from what the branches hold, so that the last to be published leaves that of all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pico_schema import SchemaError, layout
from pico_train.config.suites import Member
from pico_train.errors import PicoTrainError, UsageError
from pico_train.publish.command import choose_settings, publish_run
from pico_train.suite.record import OpenSuite


@dataclass(frozen=True)
class PublishedSuite:
    """What came of it."""

    rows: list[dict[str, Any]]
    """One for each member."""
    failed: dict[str, str]
    """Member → why it is not published whole."""
    exit_code: int
    """0 all published; else that of the first that failed."""


def publish_suite(
    suite: OpenSuite,
    members: Sequence[Member],
    overrides: Mapping[str, Any],
    *,
    dry_run: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> PublishedSuite:
    """Publish the members that are begun.

    Args:
        suite: The suite.
        members: Those to be published.
        overrides: What the command line says over each run's own section `publish`.
        dry_run: Say what would be sent, and send nothing.
        say: Told the course of it.

    Raises:
        UsageError: none of them is begun.
    """
    rows, failed, code = [], dict[str, str](), 0
    begun = [member for member in members if (suite.run_dir(member) / layout.RUN_MANIFEST).is_file()]
    if not begun:
        raise UsageError(f"no run of suite {suite.name} is begun: `pico-train suite run` trains them")
    for member in begun:
        row: dict[str, Any] = {"member": member.name}

        def told(line: str, name: str = member.name) -> None:
            say(f"{name}: {line}")

        try:
            settings = choose_settings(suite.run_dir(member), overrides)
            report = publish_run(
                suite.run_dir(member),
                settings,
                dry_run=dry_run,
                progress=told,
            )
            error, its_code, row["what"] = report.error, report.exit_code, report.line
        except (PicoTrainError, SchemaError) as problem:
            error, its_code = str(problem), getattr(problem, "exit_code", 3)
        if error is not None:
            failed[member.name] = error
            row["what"], code = error, code or its_code or 1
        rows.append(row)
    return PublishedSuite(rows, failed, code)
