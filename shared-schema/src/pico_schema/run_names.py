"""How runs and their steps are written, the same for both tools.

    demo@128, runs/demo@step-128, demo@first      a step of a run, whichever way the run is named
    hf://org/name@branch:step-128                 an address on the Hub

What the run before the ``@`` is, a name, a path or an address, each tool finds out for itself.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, cast

from pico_schema.errors import AddressError

Step = int | Literal["first", "last"]
"""A step by its number, or the first or last checkpoint of a run."""

_STEP = re.compile(r"(?:step-)?([0-9]{1,8})")
# Git allows no control characters in the name of a branch or tag; those of C1 move a terminal's cursor as well.
_ADDRESS = re.compile(
    r"hf://([A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*?)(?:@([^:@\s\x00-\x1f\x7f-\x9f]{1,200}))?(?::step-([0-9]{1,8}))?",
    re.A,
)


class HubAddress(NamedTuple):
    """Where a run on the Hub is: a repository, a branch, tag or commit of it, and one step if only one is meant."""

    repo: str
    """``org/name``."""
    revision: str | None
    """Branch, tag or commit; None where none is named."""
    step: int | None


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


def parse_address(text: str) -> HubAddress:
    """The parts of ``hf://org/name[@revision][:step-N]``. Whether there is such a repository is not asked.

    Raises:
        AddressError: it is no such address. The sentence is one for a person, complete without the class.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None or ".." in text or "--" in match[1]:
        raise AddressError(
            f"{text[:300]!r} is not an address on the Hub: write hf://org/name@branch-or-tag, or "
            "hf://org/name@branch:step-128"
        )
    return HubAddress(match[1], match[2], int(match[3]) if match[3] else None)
