"""A suite's table for people: where each member stands, and which is the best of its size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pico_train.config.axes import SIZE, shown
from pico_train.suite.record import OpenSuite
from pico_train.suite.state import MemberState

_STATES = ("finished", "running", "failed", "stopped", "waiting")
_SEEDS = ("seed", "data_seed", "weights_seed", "data.seed", "training.init_seed", "init_seed")
_LONGEST = 100


def status_rows(suite: OpenSuite, found: Sequence[MemberState]) -> list[dict[str, Any]]:
    """One line for each member.

    Args:
        suite: The suite.
        found: Some of its members, in its order.
    """
    best = bests(suite, found)
    rows = []
    for each in found:
        why = each.error or each.where or ""
        row: dict[str, Any] = {
            "member": each.name,
            "state": each.state,
            "step": "" if each.step is None else f"{each.step:,}/{each.steps:,}",
            "loss": _number(each.loss),
            "val loss": _number(each.val_loss),
            "tokens/s": "" if each.tokens_per_second is None else f"{each.tokens_per_second:,.0f}",
            "checkpoints": each.checkpoints,
            "": "; ".join(part for part in (best.get(each.name), why) if part)[:_LONGEST],
        }
        rows.append(row)
    return rows


def status_line(found: Sequence[MemberState]) -> str:
    """How many members are in which state, in one sentence."""
    counts = {name: sum(each.state == name for each in found) for name in _STATES}
    return ", ".join(f"{n} {name}" for name, n in counts.items() if n)


def bests(suite: OpenSuite, found: Sequence[MemberState]) -> dict[str, str]:
    """Member → what it is the best of: the lowest loss among the finished members of its size, on validation rows if
    all have been there. Nothing where members differ in size and seeds alone: then none is to be chosen."""
    if not any(name != SIZE and name not in _SEEDS for name in suite.axes):
        return {}
    coordinates = {member.name: member.coordinates for member in suite.members}
    groups: dict[str, list[MemberState]] = {}
    for each in found:
        if each.state == "finished":
            groups.setdefault(shown(coordinates[each.name].get(SIZE, "all")), []).append(each)
    best = {}
    for group, members in groups.items():
        field = "val_loss" if all(each.val_loss is not None for each in members) else "loss"
        ranked = [(value, each.name) for each in members if (value := getattr(each, field)) is not None]
        if len(ranked) > 1:
            best[min(ranked)[1]] = f"best of {group}"
    return best


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
