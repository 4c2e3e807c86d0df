"""What runs there are and what their checkpoints hold, as records and as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pico_analyze.counting import counted
from pico_analyze.errors import DataError
from pico_analyze.output.text import aligned, number, size_text
from pico_analyze.output.without_site import lines, why_incomplete
from pico_analyze.stores.base import HasLineage, NamesTensors, SetsAside, Store
from pico_analyze.stores.set_aside import printable
from pico_schema.sites import KINDS, Site

if TYPE_CHECKING:
    from pico_analyze.stores.set_aside import SetAside

_MOST_STEPS = 12
_MOST_TASKS = 4
_MAIN = ("accuracy", "acc", "bits_per_byte")
"""Measures that are listed."""


def records(store: Store, warn: Callable[[str], None] = lambda _: None) -> list[dict[str, Any]]:
    """One record per checkpoint, by step: complete ones, those that are not, and those that the run has set aside, with
    the reason.

    Args:
        store: The run.
        warn: Is told why results of evaluation are left out, where they are.
    """
    found: list[dict[str, Any]] = []
    try:
        results = _results(store)
    except DataError as error:  # a listing goes on without them
        results = {}
        warn(f"results of evaluation are left out: {error}")
    for info in store.steps():
        rest = store.without_site(info.step) if isinstance(store, NamesTensors) else None
        reason = None if rest is None else why_incomplete(rest)
        found.append(
            {
                "run": store.run,
                "kind": store.kind,
                "step": info.step,
                "tokens_seen": info.tokens_seen,
                "loss": _loss(info.metrics),
                "val_loss": info.metrics.get("val_loss"),
                "results": results.get(info.step, {}),
                "size": info.size,
                "captures": {
                    split: {
                        "activations": list(held.activations),
                        "gradients": list(held.gradients),
                        "noise": list(held.noise),
                        "n_samples": held.n_samples,
                    }
                    for split, held in info.splits.items()
                },
                "complete": reason is None,
                "set_aside": False,
                "reason": reason,
                "location": store.location,
                "without_site": None if rest is None else asdict(rest),
            }
        )
    for lost in store.unusable():
        found.append(_without_values(store, lost.step, f"{lost.name}: {lost.reason}", set_aside=False))
    for aside in _set_aside(store):
        found += [_without_values(store, step, aside.reason, set_aside=True) for step in aside.steps or (None,)]
    return sorted(found, key=lambda record: (record["step"] is None, record["step"] or 0, record["set_aside"]))


def _without_values(store: Store, step: int | None, reason: str, *, set_aside: bool) -> dict[str, Any]:
    """The record of a checkpoint that is not measured."""
    return {
        "run": store.run,
        "kind": store.kind,
        "step": step,
        "tokens_seen": None,
        "loss": None,
        "val_loss": None,
        "results": {},
        "size": None,
        "captures": {},
        "complete": False,
        "set_aside": set_aside,
        "reason": reason,
        "location": store.location,
        "without_site": None,
    }


def _set_aside(store: Store) -> tuple[SetAside, ...]:
    return store.set_aside() if isinstance(store, SetsAside) else ()


def _results(store: Store) -> dict[int, dict[str, float]]:
    """By step, of each task what says most at a glance: its accuracy, else its bits per byte."""
    found: dict[int, dict[str, float]] = {}
    for step, values in store.evaluations().items():
        tasks = dict.fromkeys(flat.rpartition(".")[0] for flat in values if "." in flat)
        names = [f"{task}.{measure}" for task in tasks if "/" not in task for measure in _MAIN]
        found[step] = {name: values[name] for name in names if name in values}
    return found


def _loss(metrics: Any) -> float | None:
    return next((metrics[name] for name in ("train_loss", "loss") if metrics.get(name) is not None), None)


def text(store: Store, found: Sequence[dict[str, Any]]) -> str:
    """The listing of one run for people; steps that were set aside stand in a line of their own below it."""
    found = [record for record in found if not record["set_aside"]]
    complete = sum(record["complete"] for record in found)
    title = f"{store.run} ({store.kind}, {store.location}): {counted(complete, 'checkpoint')}"
    if lost := len(found) - complete:
        title += f", {lost} incomplete"
    title += _lineage(store)
    below = "".join(f"\nset aside: {_steps(aside.steps)} ({aside.reason})" for aside in _set_aside(store))
    if isinstance(store, NamesTensors) and (steps := store.steps()):
        below += "".join(f"\n{line}" for line in lines(store.without_site(steps[-1].step)))
    if not found:
        return title + below
    tasks = list(dict.fromkeys(name for record in found for name in record["results"]))[:_MOST_TASKS]
    header = ["step", "tokens", "loss", "val loss", *tasks, "size", "captures", "complete"]
    rows = [
        [
            "-" if record["step"] is None else str(record["step"]),
            "-" if record["tokens_seen"] is None else f"{record['tokens_seen']:,}",
            "-" if record["loss"] is None else number(record["loss"]),
            "-" if record["val_loss"] is None else number(record["val_loss"]),
            *("-" if name not in record["results"] else number(record["results"][name]) for name in tasks),
            size_text(record["size"]),
            _captures(record["captures"]),
            "yes" if record["complete"] else f"no: {record['reason']}",
        ]
        for record in found
    ]
    return f"{title}\n{aligned(header, rows, left=(5 + len(tasks), 6 + len(tasks)))}{below}"


def _lineage(store: Store) -> str:
    """What a run is part of, and what it was forked from, as lines below its title."""
    if not isinstance(store, HasLineage):
        return ""
    found = ""
    if (member := store.membership()) is not None:
        places = ", ".join(f"{axis} {value}" for axis, value in member.coordinates.items())
        found += f"\nof suite {member.name}: {printable(places)}"
    if (parent := store.parent()) is not None:
        where = f"{parent.run_name}@{parent.step} ({printable(parent.location)})"
        found += f"\nforked from {where}: {parent.optimizer} optimizer, data {parent.data}"
    return found


def _steps(steps: Sequence[int]) -> str:
    """``steps 14, 16``, long lists in short."""
    if not steps:
        return "an unknown step"
    shown = ", ".join(map(str, steps[:_MOST_STEPS]))
    more = f", … ({len(steps)} in all)" if len(steps) > _MOST_STEPS else ""
    return f"step{'' if len(steps) == 1 else 's'} {shown}{more}"


def _captures(captures: dict[str, dict[str, Any]]) -> str:
    """``train, val: attn.v attn.o mlp.down`` where the splits hold the same sites."""
    by_sites: dict[str, list[str]] = {}
    for split, held in captures.items():
        kinds = sorted({Site.parse(site).kind for site in (*held["activations"], *held["gradients"])}, key=KINDS.index)
        by_sites.setdefault(" ".join([*kinds, *(["(noise)"] if held["noise"] else [])]), []).append(split)
    return "; ".join(f"{', '.join(splits)}: {kinds}" for kinds, splits in by_sites.items()) or "-"
