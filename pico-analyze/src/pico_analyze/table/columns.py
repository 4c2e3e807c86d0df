"""The table's columns, what they mean, which of them identify a row, and the text forms that cells have."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow

Row = dict[str, Any]

COLUMNS: dict[str, str] = {
    "run": "Name of the run.",
    "step": "Step of the checkpoint: updates done.",
    "tokens_seen": "Tokens consumed before it.",
    "split": "Batch the data was captured on: train or val; empty for weights, and for rows of one's own.",
    "data": "weights, activations, gradients or behaviour.",
    "component": "What was measured: a component's name; probe for behaviour.",
    "site": "Site, without its layer: attn.v, attn.ov, …; of behaviour the probe's name.",
    "layer": "Layer; empty for what a model has once.",
    "head": "Head; empty for the whole.",
    "metric": "Name of the metric.",
    "params": "Parameters of component and metric, and what was asked about uncertainty, as JSON.",
    "target_run": "Comparisons: name of the run compared with.",
    "target_step": "Comparisons: its step.",
    "value": "The value; NaN where it is undefined.",
    "reason": "Why the value is undefined.",
    "n_samples": "Rows of the matrix: samples of activations; empty for weights and gradients. Of behaviour: rows of "
    "tokens.",
    "target_layer": "Comparisons between layers: layer compared with (also in params).",
    "n_features": "Columns of the matrix.",
    "ci_low": "Lower end of the 95 % interval over rows of tokens, of gradient noise over parts of the batch; if there "
    "is none, `extra` says why (`ci_reason`).",
    "ci_high": "Upper end of it.",
    "null_mean": "Mean of the values by chance.",
    "null_p": "Probability of a value as extreme by chance, at least 1 / (draws + 1).",
    "extra": "What else belongs to the value, as JSON: rank, tolerance and stored type, why there is no interval, …",
    "provenance": "Where the numbers come from, as JSON: run id, manifest digests, pinned commits, versions; `inputs`: "
    "the sha256 of each file that was read; `unchecked`: what could not be compared with its digest yet.",
    "digest": "Digest of the question and of its inputs; equal means the row need not be computed again.",
}
"""Columns in their order, and what they mean."""

CORE: tuple[str, ...] = tuple(COLUMNS)[:16]
"""The columns that every tidy row of Pico has."""

KEY: tuple[str, ...] = (
    *("run", "step", "split", "data", "component", "site", "layer", "head", "metric", "params"),
    *("target_run", "target_step"),
)
"""What identifies a row: the target's layer is part of params."""

_INTEGERS = {"step", "tokens_seen", "layer", "head", "target_step", "n_samples", "target_layer", "n_features"}
_FLOATS = {"value", "ci_low", "ci_high", "null_mean", "null_p"}
VERSION = "pico_analyze.columns"
"""Metadata of a table's file: "2" since every such file has a checksum, "1" before."""
ORDER: tuple[str, ...] = (
    *("component", "data", "split", "metric", "target_run"),
    *("site", "layer", "head", "step", "target_step", "target_layer", "params"),
)


@cache
def schema() -> pyarrow.Schema:
    """The table's schema."""
    import pyarrow as pa

    kinds = {
        name: pa.int64() if name in _INTEGERS else pa.float64() if name in _FLOATS else pa.string() for name in COLUMNS
    }
    return pa.schema([pa.field(name, kind) for name, kind in kinds.items()], metadata={VERSION: "2"})


def as_json(values: Mapping[str, object]) -> str:
    """A mapping as JSON with sorted keys: equal mappings give equal texts."""
    return json.dumps(values, sort_keys=True, ensure_ascii=False, default=str)


def digest(*parts: object) -> str:
    """Sixteen hexadecimal digits that stand for these parts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def plain(value: object) -> Any:
    """A cell for JSON: missing and NaN become None."""
    value = value.item() if hasattr(value, "item") else value
    return None if type(value).__name__ == "NAType" or (isinstance(value, float) and math.isnan(value)) else value
