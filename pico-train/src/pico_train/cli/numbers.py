"""Numbers on the command line: the largest that there are, and what bounds alone let through."""

from __future__ import annotations

import math

import typer

MOST = 2**31 - 1
"""Largest count of anything, as in a configuration."""
MOST_STEPS = 10**8 - 1
"""Largest step that has a name."""
MOST_TOKENS = 2**20
"""Longest row, as in a configuration."""
MOST_PROCESSES = 1024
LARGEST_SEED = 2**63 - 1


def finite(value: float | None) -> float | None:
    """The value, as every option that takes a fraction has it checked: "nan" is neither below nor above its bounds."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number.")
    return value
