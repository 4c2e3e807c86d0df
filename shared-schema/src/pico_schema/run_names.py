"""How a step of a run is written, the same for both tools: ``demo@128``, ``runs/demo@step-128``, ``demo@first``.

What the run before the ``@`` is, a name, a path or an address, each tool finds out for itself.
"""

from __future__ import annotations

import re
from typing import Literal, cast

Step = int | Literal["first", "last"]
"""A step by its number, or the first or last checkpoint of a run."""

_STEP = re.compile(r"(?:step-)?([0-9]{1,8})")


def parse_step(text: str) -> Step | None:
    """``128``, ``step-128``, ``first`` or ``last`` as a step, or None if it is none."""
    if text in ("first", "last"):
        return cast("Step", text)
    match = _STEP.fullmatch(text)
    return int(match[1]) if match else None


def split_step(text: str) -> tuple[str, Step | None]:
    """``RUN@STEP`` as its two parts; None for the step of anything else."""
    run, at, tail = text.rpartition("@")
    step = parse_step(tail) if at and run else None
    return (text, None) if step is None else (run, step)
