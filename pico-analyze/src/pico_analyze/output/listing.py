"""What runs there are and what their checkpoints hold, as records and as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pico_analyze.output.text import aligned, number, size_text
from pico_analyze.stores.base import Store
from pico_schema.sites import KINDS, Site


def records(store: Store) -> list[dict[str, Any]]:
    """One record per checkpoint, by step: complete ones, and those that are not, with the reason."""
    found: list[dict[str, Any]] = []
    for info in store.steps():
        found.append(
            {
                "run": store.run,
                "kind": store.kind,
                "step": info.step,
                "tokens_seen": info.tokens_seen,
                "loss": _loss(info.metrics),
                "val_loss": info.metrics.get("val_loss"),
                "size": info.size,
                "captures": {
                    split: {
                        "activations": list(held.activations),
                        "gradients": list(held.gradients),
                        "n_samples": held.n_samples,
                    }
                    for split, held in info.splits.items()
                },
                "complete": True,
                "reason": None,
                "location": store.location,
            }
        )
    for lost in store.unusable():
        empty = dict.fromkeys(("tokens_seen", "loss", "val_loss", "size"))
        found.append(
            {"run": store.run, "kind": store.kind, "step": lost.step, **empty, "captures": {}, "complete": False}
            | {"reason": f"{lost.name}: {lost.reason}", "location": store.location}
        )
    return sorted(found, key=lambda record: (record["step"] is None, record["step"] or 0))


def _loss(metrics: Any) -> float | None:
    return next((metrics[name] for name in ("train_loss", "loss") if metrics.get(name) is not None), None)


def text(store: Store, found: Sequence[dict[str, Any]]) -> str:
    """The listing of one run for people."""
    complete = sum(record["complete"] for record in found)
    title = f"{store.run} ({store.kind}, {store.location}): {complete} checkpoint{'' if complete == 1 else 's'}"
    if lost := len(found) - complete:
        title += f", {lost} incomplete"
    if not found:
        return title
    header = ["step", "tokens", "loss", "val loss", "size", "captures", "complete"]
    rows = [
        [
            "-" if record["step"] is None else str(record["step"]),
            "-" if record["tokens_seen"] is None else f"{record['tokens_seen']:,}",
            "-" if record["loss"] is None else number(record["loss"]),
            "-" if record["val_loss"] is None else number(record["val_loss"]),
            size_text(record["size"]),
            _captures(record["captures"]),
            "yes" if record["complete"] else f"no: {record['reason']}",
        ]
        for record in found
    ]
    return f"{title}\n{aligned(header, rows, left=(5, 6))}"


def _captures(captures: dict[str, dict[str, Any]]) -> str:
    """``train, val: attn.v attn.o mlp.down`` where the splits hold the same sites."""
    by_sites: dict[str, list[str]] = {}
    for split, held in captures.items():
        kinds = sorted({Site.parse(site).kind for site in (*held["activations"], *held["gradients"])}, key=KINDS.index)
        by_sites.setdefault(" ".join(kinds), []).append(split)
    return "; ".join(f"{', '.join(splits)}: {kinds}" for kinds, splits in by_sites.items()) or "-"
