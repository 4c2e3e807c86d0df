"""The end of a run: what came of it, for people."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pico_schema import documents, layout
from pico_train.checkpoint import metrics_log
from pico_train.evaluation.results import PREFIX
from pico_train.run_start import Start
from pico_train.training.health import Meter


@dataclass(frozen=True)
class Summary:
    """What came of a run, for people."""

    run_dir: Path
    """Where everything is."""
    steps: int
    """Updates done in all."""
    resumed_at: int | None
    """Step it went on from, None for a new run."""
    was_finished: bool
    """Whether there was nothing left to do."""
    first_loss: float | None
    """Loss of the first logged step, in nats per token."""
    last_loss: float | None
    """Loss of the last logged step."""
    val_loss: float | None
    """Newest validation loss."""
    evaluated: dict[str, tuple[float, float]]
    """Results by ``task/measure``: at the first and at the last step that has them."""
    seconds: float
    """Time from start to end."""
    tokens_per_second: float | None
    """Training speed, captures and checkpoints left out."""
    checkpoints: int
    """Sealed checkpoints."""
    size: int
    """Bytes of the run on disk."""


def _first_and_last(rows: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    found: dict[str, tuple[float, float]] = {}
    for row in rows:
        for name in row:
            if name.startswith(f"{PREFIX}/") and (value := metrics_log.number(row, name)) is not None:
                short = name.removeprefix(f"{PREFIX}/")
                found[short] = (found.get(short, (value, value))[0], value)
    return found


def summarize(run_dir: Path, start: Start, *, started: float, meter: Meter | None = None) -> Summary:
    """What came of a run, from its documents and its log.

    Args:
        run_dir: The run.
        start: Where this process took it up.
        started: When that was, by `time.perf_counter`.
        meter: What it measured; None where there was nothing left to do.
    """
    rows = metrics_log.read(run_dir / layout.METRICS_LOG)
    losses = [value for row in rows if (value := metrics_log.number(row, "loss")) is not None]
    val = [value for row in rows if (value := metrics_log.number(row, "val_loss")) is not None]
    listed = {entry.step for entry in documents.read_run(run_dir).checkpoints}
    steps = [step for step, _ in documents.checkpoint_dirs(run_dir) if step in listed]
    return Summary(
        run_dir=run_dir,
        steps=max(steps, default=0),
        resumed_at=start.step if start.checkpoint is not None else None,
        was_finished=meter is None,
        first_loss=losses[0] if losses else None,
        last_loss=losses[-1] if losses else None,
        val_loss=val[-1] if val else None,
        evaluated=_first_and_last(rows),
        seconds=time.perf_counter() - started,
        tokens_per_second=meter.training_tokens / meter.training_seconds if meter and meter.training_seconds else None,
        checkpoints=len(steps),
        size=sum(path.stat().st_size for path in run_dir.rglob("*") if path.is_file()),
    )
