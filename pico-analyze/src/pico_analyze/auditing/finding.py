"""What a check says of a checkpoint: one sentence, how bad it is, and the figures that it follows from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
COLUMNS = ("run", "step", "name", "check", "severity", "finding", "figures")
_MOST_SHOWN = 8


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or may be."""

    step: int | None
    """The step that is to be looked at; None where it is the run."""
    name: str
    """Its directory, branch or tag."""
    check: str
    """Which check found it."""
    severity: Severity
    """An error is wrong in any training; a warning may be meant; a note is no fault."""
    finding: str
    """What is wrong with which steps, and what to do."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """What it follows from."""


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """By step, errors first."""
    return sorted(
        findings, key=lambda one: (-1 if one.step is None else one.step, SEVERITIES.index(one.severity), one.check)
    )


def named_steps(steps: Sequence[int]) -> str:
    """``step 4``, ``steps 1, 2 and 4``; of many, the first and how many there are."""
    if len(steps) == 1:
        return f"step {steps[0]}"
    if len(steps) > _MOST_SHOWN:
        return f"steps {', '.join(map(str, steps[:_MOST_SHOWN]))}, … ({len(steps)} in all)"
    return f"steps {', '.join(map(str, steps[:-1]))} and {steps[-1]}"


def listed(texts: Sequence[str]) -> str:
    """``a, b and c``; of many, the first and how many more there are."""
    shown = list(texts[:_MOST_SHOWN])
    if more := len(texts) - len(shown):
        return f"{', '.join(shown)} and {more} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
