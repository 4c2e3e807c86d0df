"""What a run had and has no more, as far as its documents tell without hashing; and which losses a person has accepted.

The index keeps a checkpoint that is gone, so that nothing hides the loss: `verify` and `inspect` show it, each start of
the run warns of it, until `pico-train repair RUN --accept-losses` takes it out. What was accepted is written down in
`accepted_losses.json` at the run's root and shown from then on as a fact, not as a problem.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from pico_schema import RunManifest, documents, layout
from pico_train.checkpoint import metrics_log, set_aside
from pico_train.checkpoint.consumed import value_at
from pico_train.checkpoint.storage import Disk, replace_file
from pico_train.errors import CheckpointError
from pico_train.json_file import read_model

ACCEPTED = "accepted_losses.json"


@dataclass(frozen=True)
class Loss:
    """One thing that a run had and has no more."""

    step: int | None
    """The checkpoint's step; None for a file of the run itself."""
    path: str
    """File, relative to the checkpoint or the run; empty for a checkpoint as a whole."""
    detail: str
    """One sentence for people."""
    manifest_sha256: str | None = None
    """Digest of the manifest of a checkpoint that is gone."""
    rows: tuple[int, int] | None = None
    """First and last step of a stretch of the log that is gone."""


class Accepted(BaseModel):
    """A loss that a person has accepted."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    when: datetime
    step: int | None = None
    path: str = ""
    detail: str
    manifest_sha256: str | None = None
    rows: tuple[int, int] | None = None


class AcceptedLosses(BaseModel):
    """`accepted_losses.json`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: int = 1
    accepted: tuple[Accepted, ...] = ()


def accepted(run_dir: Path) -> tuple[Accepted, ...]:
    """The losses that were accepted, in that order.

    Raises:
        CheckpointError: the file is damaged.
    """
    path = run_dir / ACCEPTED
    try:
        return read_model(path, AcceptedLosses).accepted
    except FileNotFoundError:
        return ()
    except (OSError, ValueError):
        raise CheckpointError(f"{path}: cannot be read: restore it, or remove it and accept the losses again") from None


def accept(run_dir: Path, losses: Iterable[Loss], *, when: datetime, disk: Disk | None = None) -> None:
    """Write down losses as accepted."""
    before = accepted(run_dir)
    new = [
        Accepted(
            when=when,
            step=loss.step,
            path=loss.path,
            detail=loss.detail,
            manifest_sha256=loss.manifest_sha256,
            rows=loss.rows,
        )
        for loss in losses
    ]
    known = {item.model_copy(update={"when": when}) for item in before}  # of an acceptance that was interrupted
    added = [item for item in new if item not in known]
    content = AcceptedLosses(accepted=(*before, *added)).model_dump_json(indent=1)
    replace_file(disk or Disk(), run_dir / ACCEPTED, content.encode() + b"\n")


def find(run_dir: Path, run: RunManifest) -> list[Loss]:
    """What is lost of a run and was not accepted: checkpoints, and stretches of the log. Nothing is hashed."""
    known = accepted(run_dir)
    digests = {(item.step, item.manifest_sha256) for item in known}
    return [
        *_listed(run_dir, run),
        *(loss for loss in _gone_before(run_dir) if (loss.step, loss.manifest_sha256) not in digests),
        *_rows(run_dir, run, [item.rows for item in known if item.rows is not None]),
    ]


def _here(run_dir: Path) -> set[int]:
    return {step for step, path in documents.checkpoint_dirs(run_dir) if (path / layout.MANIFEST).is_file()}


def _listed(run_dir: Path, run: RunManifest) -> Iterator[Loss]:
    """Checkpoints that the index lists: one that is accepted leaves it."""
    here = _here(run_dir)
    for entry in run.checkpoints:
        if entry.step not in here:
            directory = run_dir / layout.checkpoint_dir(entry.step)
            path = layout.MANIFEST if directory.is_dir() else ""
            detail = (
                f"step {entry.step} is listed in {layout.RUN_MANIFEST}, but {path or 'the checkpoint'} is not there"
            )
            yield Loss(entry.step, path, detail, entry.manifest_sha256)


def _gone_before(run_dir: Path) -> Iterator[Loss]:
    """Checkpoints that were gone when what followed a step was set aside, and that were not sealed again."""
    here = _here(run_dir)
    for item in set_aside.listed(run_dir):
        for entry in item.note.lost:
            if entry.step not in here:
                detail = f"step {entry.step} was missing when {item.note.reason}, and was not sealed again"
                yield Loss(entry.step, "", detail, entry.manifest_sha256)


def _rows(run_dir: Path, run: RunManifest, accepted_rows: list[tuple[int, int]]) -> Iterator[Loss]:
    """Stretches of steps before the newest seal whose lines are not in the log: those were durable before it."""
    newest = run.checkpoints[-1].step if run.checkpoints else 0
    there = {row["step"] for row in metrics_log.read(run_dir / layout.METRICS_LOG)}
    first: int | None = None
    last = count = 0
    for step in (*_logged_steps(run, newest), None):
        gone = step is not None and step not in there and not any(a <= step <= b for a, b in accepted_rows)
        if gone:
            assert step is not None
            first, last, count = (step if first is None else first), step, count + 1
        elif first is not None:
            what = f"the line of step {first} is" if count == 1 else f"the lines of steps {first} to {last} are"
            yield Loss(None, layout.METRICS_LOG, f"{what} missing from {layout.METRICS_LOG}", rows=(first, last))
            first, count = None, 0


def _logged_steps(run: RunManifest, end: int) -> Iterator[int]:
    """Steps before `end` that the log must have a line of, by the `monitoring.log_every` that was in force; those of a
    fork begin where it does."""
    field, begun = "monitoring.log_every", run.parent.step if run.parent is not None else 0
    changed = {change.step for change in run.changes if change.field == field and begun < change.step < end}
    edges = sorted({begun, *changed, max(begun, end)})
    for first, following in pairwise(edges):
        every = value_at(run, field, first)
        if type(every) is int and every > 0:
            yield from range(-(-first // every) * every, following, every)
