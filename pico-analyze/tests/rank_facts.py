"""What stands beside a value, without what says how its numerical rank was decided."""

from __future__ import annotations

from collections.abc import Mapping

DECIDED = ("rank", "tolerance", "stored")


def others(extra: Mapping[str, float | str]) -> dict[str, float | str]:
    """The facts beside those that `matrices.rounding` gives of each side; they are there or not all together."""
    for suffix in ("", "_target"):
        there = [f"{name}{suffix}" in extra for name in DECIDED]
        assert all(there) or not any(there), extra
    return {name: value for name, value in extra.items() if name.removesuffix("_target") not in DECIDED}
