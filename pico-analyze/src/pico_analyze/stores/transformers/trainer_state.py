"""What transformers' Trainer wrote beside a checkpoint, `trainer_state.json`: the step, tokens, losses, evaluations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pico_analyze.errors import DataError
from pico_analyze.stores.transformers.files import ModelFiles
from pico_analyze.stores.transformers.step_names import MAX_STEP

TRAINER_STATE = "trainer_state.json"
_NAMES = {"loss": "train_loss", "eval_loss": "val_loss", "grad_norm": "grad_norm", "learning_rate": "lr"}
"""What the log calls the scalars that Pico's own runs have too; evaluations keep their names."""
_NOT_RESULTS = ("eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "eval_jit_compilation_time")


@dataclass(frozen=True)
class TrainerState:
    """What it says."""

    step: int | None
    """Updates done."""
    max_steps: int | None
    """Updates planned."""
    tokens: int | None
    """Tokens consumed; None where the Trainer did not count them, as it does not unless told to."""
    rows: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    """What was logged, by step."""


def trainer_state(files: ModelFiles) -> TrainerState | None:
    """What `trainer_state.json` says; None where there is none.

    Raises:
        DataError: it is damaged.
    """
    if TRAINER_STATE not in files.sizes:
        return None
    raw = files.json(TRAINER_STATE)
    history = raw.get("log_history") or []
    if not isinstance(history, list):
        raise DataError(f"{files.at(TRAINER_STATE)}: log_history is no list: the file is damaged")
    rows: dict[int, dict[str, float]] = {}
    for entry in history:
        step = _count(entry.get("step")) if isinstance(entry, dict) else None
        if step is not None:
            rows.setdefault(step, {}).update(_numbers(entry))
    tokens = _count(raw.get("num_input_tokens_seen"))
    return TrainerState(_count(raw.get("global_step")), _count(raw.get("max_steps")), tokens or None, rows)


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= MAX_STEP else None


def _numbers(entry: Mapping[str, Any]) -> dict[str, float]:
    found = {}
    for name, value in entry.items():
        known = _NAMES.get(name) or (name if name.startswith("eval_") and name not in _NOT_RESULTS else None)
        if known and len(name) <= 100 and type(value) in (int, float) and abs(value) < 2**63 and math.isfinite(value):
            found[known] = float(value)
    return found
