"""Whether a run's documents tell one history: manifests, index, log and evaluations must agree about each step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pico_schema import CheckpointManifest, Evaluation, RunManifest, SchemaError, documents, layout
from pico_train.checkpoint import metrics_log

Kind = Literal["missing", "truncated", "altered", "unexpected", "unsafe", "duplicate"]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong."""

    step: int | None
    """The checkpoint's step; None for a file of the run itself."""
    problem: Kind
    """What kind of damage."""
    path: str
    """File, relative to the checkpoint; empty for the checkpoint as a whole."""
    detail: str
    """One sentence for people."""


LOSS_TOLERANCE = 0.01
"""Relative difference of two losses of the same weights on the same rows: sums in another order, or in bfloat16 with
another micro-batch, stay far below it; another trajectory does not."""


def contradictions(run_dir: Path, run: RunManifest, manifests: Mapping[int, CheckpointManifest]) -> Iterator[Problem]:
    """Steps of which index, log and manifest say different things.

    Args:
        run_dir: The run.
        run: Its manifest.
        manifests: Those of its checkpoints that could be read, by step.
    """
    index = {entry.step: entry for entry in run.checkpoints}
    rows = {row["step"]: row for row in metrics_log.read(run_dir / layout.METRICS_LOG)}
    before = 0
    for step, manifest in sorted(manifests.items()):
        entry, row = index.get(step), rows.get(step, {})
        if entry is not None and entry.tokens_seen != manifest.tokens_seen:
            detail = f"{layout.RUN_MANIFEST} says {entry.tokens_seen} tokens, {layout.MANIFEST} {manifest.tokens_seen}"
            yield Problem(step, "altered", layout.MANIFEST, detail)
        if manifest.tokens_seen is not None and manifest.tokens_seen < before:
            detail = f"{manifest.tokens_seen} tokens were seen, fewer than at the step before"
            yield Problem(step, "altered", layout.MANIFEST, detail)
        before = before if manifest.tokens_seen is None else manifest.tokens_seen
        logged = row.get("tokens_seen")
        if logged is not None and logged != manifest.tokens_seen:
            detail = f"{layout.METRICS_LOG} says {str(logged)[:20]} tokens, {layout.MANIFEST} {manifest.tokens_seen}"
            yield Problem(step, "altered", layout.METRICS_LOG, detail)
        for ours, theirs in (("train_loss", "loss"), ("val_loss", "val_loss")):
            sealed, there = manifest.metrics.get(ours), metrics_log.number(row, theirs)
            if sealed is not None and there is not None and not math.isclose(sealed, there, rel_tol=LOSS_TOLERANCE):
                detail = (
                    f"{layout.METRICS_LOG} says a {theirs} of {there:.4g}, {layout.MANIFEST} {sealed:.4g}: "
                    "they are of two trajectories"
                )
                yield Problem(step, "altered", layout.METRICS_LOG, detail)


def damaged_documents(run_dir: Path, run: RunManifest) -> Iterator[Problem]:
    """Lines of the log that are none or out of order, and evaluations that cannot be read or are another run's."""
    lines = (run_dir / layout.METRICS_LOG).read_bytes() if (run_dir / layout.METRICS_LOG).is_file() else b""
    last = -1
    for number, line in enumerate(lines.splitlines(keepends=True), start=1):
        row = metrics_log.parse_line(line)
        if row is None and line.endswith(b"\n"):
            yield Problem(None, "altered", layout.METRICS_LOG, f"line {number} is not the line of a step")
        if row is not None and row["step"] <= last:
            detail = f"line {number} is of step {row['step']}, after one of step {last}"
            yield Problem(None, "altered", layout.METRICS_LOG, detail)
        last = last if row is None else max(last, row["step"])
    for path in sorted((run_dir / layout.EVALUATIONS).glob("step-*.json")):
        name = f"{layout.EVALUATIONS}/{path.name}"
        try:
            evaluation = documents.read(path, Evaluation)
        except SchemaError as error:
            yield Problem(None, "altered", name, str(error))
            continue
        if evaluation.run_id != run.id or layout.evaluation_file(evaluation.step) != name:
            detail = f"{name} is of step {evaluation.step} of run {evaluation.run_id}"
            yield Problem(None, "altered", name, detail)
