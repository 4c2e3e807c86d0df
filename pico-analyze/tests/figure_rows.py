"""Rows as a table has them, of made-up values that a test can know by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from pico_analyze.table.columns import COLUMNS

INTEGERS = ("step", "tokens_seen", "layer", "head", "target_step", "n_samples", "target_layer", "n_features")
FLOATS = ("value", "ci_low", "ci_high", "null_mean", "null_p")


def rows_of(places: Sequence[dict[str, Any]], value: Callable[[dict[str, Any]], float]) -> pd.DataFrame:
    """A row each place; what a place does not say is that of a metric of activations."""
    plain = dict.fromkeys(COLUMNS) | {
        "run": "m",
        "split": "val",
        "data": "activations",
        "component": "simple",
        "site": "attn.v",
        "metric": "effective_rank",
        "params": "{}",
        "n_samples": 64,
        "extra": "{}",
        "provenance": "{}",
    }
    found = []
    for number, place in enumerate(places):
        row = plain | {"tokens_seen": 1000 * place["step"], "digest": str(number)} | place
        found.append({**row, "value": place.get("value", value(row))})
    frame = pd.DataFrame(found, columns=list(COLUMNS))
    return frame.astype(dict.fromkeys(INTEGERS, "Int64") | dict.fromkeys(FLOATS, "float64"))


def lines_of(
    layers: int = 3, steps: Sequence[int] = (0, 1, 10, 100), heads: Sequence[int | None] = (None,), **common: Any
) -> pd.DataFrame:
    """Rows over layers, heads and steps; the value is layer + step / 1000, and head / 10 of heads."""
    places = [
        {"layer": layer, "head": head, "step": step, **common}
        for layer in range(layers)
        for head in heads
        for step in steps
    ]
    return rows_of(places, lambda row: row["layer"] + row["step"] / 1000 + (row["head"] or 0) / 10)


def pairs_of_steps(steps: Sequence[int] = (0, 1, 10, 100)) -> pd.DataFrame:
    """CKA of all pairs of steps of one layer: 1 − |i − j| / 10 of the places of two steps."""
    places = [
        {"layer": 0, "step": a, "target_step": b, "target_run": "m", "metric": "cka", "value": 1 - abs(i - j) / 10}
        for i, a in enumerate(steps)
        for j, b in enumerate(steps)
    ]
    return rows_of(places, lambda row: row["value"])


def pairs_of_layers(layers: int = 3) -> pd.DataFrame:
    """CKA of all pairs of layers at one step."""
    places = [
        {
            "layer": i,
            "target_layer": j,
            "step": 5,
            "target_step": 5,
            "target_run": "m",
            "metric": "cka",
            "params": json.dumps({"target_layer": j}),
            "value": 1 - abs(i - j) / 10,
        }
        for i in range(layers)
        for j in range(layers)
    ]
    return rows_of(places, lambda row: row["value"])
