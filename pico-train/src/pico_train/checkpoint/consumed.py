"""How much data a run consumed before each of its steps.

A run whose batch size never changed has consumed step × batch_size rows. Where `--override` changed it, what was
consumed before goes on counting as it was: rows and tokens are carried on from the step at which the change holds, so
that no row is left out or trained on twice, and `tokens_seen` is what the model has seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pico_schema import CheckpointManifest, RunManifest
from pico_train.errors import CheckpointError

DATA_CHANGED = "data.sha256"
"""Field of the entry that `run.json` gets where a run went on with other data: those begin at their first row."""
BATCH_SIZE = "training.batch_size"


@dataclass(frozen=True)
class Consumed:
    """What was consumed before one step; what follows is counted from there."""

    step: int = 0
    """Updates done."""
    rows: int = 0
    """Place in the endless line of rows, epoch after epoch, at which batch `step` begins."""
    tokens: int = 0
    """Tokens trained on before it."""

    def after(self, step: int, *, batch_size: int, seq_len: int) -> Consumed:
        """What was consumed before a later step, if every batch from here on has `batch_size` rows.

        Args:
            step: Not before this one.
            batch_size: Rows of a global batch.
            seq_len: Tokens of a row that are trained on.
        """
        if step < self.step:
            raise ValueError(f"step {step} lies before step {self.step}")
        rows = (step - self.step) * batch_size
        return Consumed(step, self.rows + rows, self.tokens + rows * seq_len)


def consumed_before(manifest: CheckpointManifest) -> Consumed:
    """What had been consumed when a checkpoint was taken.

    Raises:
        CheckpointError: it does not say: it was made of another maker's model.
    """
    cursor = manifest.cursor
    if cursor is None or manifest.tokens_seen is None:
        raise CheckpointError(
            f"step {manifest.step} of {manifest.run_name} does not say where in its data it stands: it was made by "
            f"{manifest.producer.name} of another maker's model, and can be measured, not trained on"
        )
    return Consumed(manifest.step, cursor.epoch * manifest.data.n_rows + cursor.row, manifest.tokens_seen)


def consumed_in(run: RunManifest, step: int) -> tuple[Consumed, int]:
    """What a run consumed before a step, and the rows of that step's batch, by the changes that `run.json` records."""
    seq_len = run.data.seq_len
    consumed = Consumed()
    for change in sorted(run.changes, key=lambda item: item.step):
        if change.step <= step and change.field in (DATA_CHANGED, BATCH_SIZE):
            consumed = consumed.after(change.step, batch_size=batch_size_at(run, consumed.step), seq_len=seq_len)
            if change.field == DATA_CHANGED:
                consumed = Consumed(consumed.step, 0, consumed.tokens)
    batch_size = batch_size_at(run, consumed.step)
    return consumed.after(step, batch_size=batch_size, seq_len=seq_len), batch_size


def batch_size_at(run: RunManifest, step: int) -> int:
    """Rows of the global batch of a step."""
    return int(value_at(run, BATCH_SIZE, step))


def value_at(run: RunManifest, field: str, step: int) -> Any:
    """What a field of the configuration was at a step, by its dotted name; None where there is no such field."""
    changes = [change for change in run.changes if change.field == field]
    before = [change for change in changes if change.step <= step]
    if before:
        return before[-1].after
    if changes:
        return changes[0].before
    value: Any = run.config
    for key in field.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
