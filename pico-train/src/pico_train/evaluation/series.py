"""The checkpoints that a person's word means, and where results of them are kept.

A run of Pico, on this disk or on the Hub (`addresses`): results lie beside its sealed checkpoints. Any other model of
transformers is one of others (`foreign_series`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pico_schema import Evaluation, RunManifest, SchemaError, documents, layout
from pico_schema.digests import sha256_file
from pico_schema.run_names import parse_address, split_step
from pico_train.addresses import HUB, open_run, sealed_checkpoint
from pico_train.errors import CheckpointError, DataError, UsageError
from pico_train.evaluation import foreign_series, results
from pico_train.evaluation.foreign_series import ForeignSeries
from pico_train.hub_runs import bring
from pico_train.training.step import Tasks


@dataclass(frozen=True)
class OwnSeries:
    """Sealed checkpoints of a run of Pico."""

    run_dir: Path
    run: RunManifest
    steps: tuple[int, ...]
    """Those that are meant, ascending."""
    address: str | None = None
    """Of a run on the Hub, at the commit that its documents were brought from; None for a run on this disk."""

    @property
    def name(self) -> str:
        """Of the run."""
        return self.run.name

    @contextmanager
    def checkpoint(self, step: int) -> Iterator[Path]:
        """Directory of a checkpoint: of one on the Hub, its model is brought now.

        Raises:
            CheckpointError, SchemaError: it is not the one that the run's index lists.
            StorageError: the Hub cannot be reached.
        """
        if self.address is not None:
            bring(self.address, step, "model")
        yield sealed_checkpoint(self.run_dir, step)

    def known(self, step: int) -> Tasks:
        """Results that there are of a checkpoint.

        Raises:
            CheckpointError, SchemaError: it is not the one that the run's index lists.
            DataError: the document is damaged.
        """
        digest = sha256_file(sealed_checkpoint(self.run_dir, step) / layout.MANIFEST)
        try:
            found = results.read(self.run_dir, self.run, step, digest)
        except SchemaError as error:
            raise DataError(f"{error}: move it away, and evaluate again") from None
        return {} if found is None else found.tasks

    def keep(self, step: int, tasks: Tasks) -> None:
        """Put results beside a checkpoint."""
        results.add(self.run_dir, self.run, step, sealed_checkpoint(self.run_dir, step), tasks, replace=True)

    def file(self, step: int) -> Path:
        """Where results are."""
        return self.run_dir / layout.evaluation_file(step)


def open_series(place: str, steps: Sequence[int] | None, out: Path | None) -> OwnSeries | ForeignSeries:
    """The checkpoints that a place means.

    Args:
        place: A run, one checkpoint of it, or a model or series of others.
        steps: Which of them; None for all.
        out: Directory of results of models of others; by default `evaluated/NAME`.

    Raises:
        CheckpointError, StorageError: there is nothing, and the message names the nearest.
        UsageError: there are no such steps.
    """
    found: OwnSeries | ForeignSeries | None = None
    failure: CheckpointError | None = None
    several = place.startswith(HUB) and "," in place.rpartition("@")[2]
    try:
        found = None if several else _own(place)
    except CheckpointError as error:
        failure = error
    if found is None:
        found = (foreign_series.on_hub if place.startswith(HUB) else foreign_series.in_folders)(place, out)
    if found is None:
        raise failure or CheckpointError(f"{place}: no such repository on the Hub, or no access to it")
    if steps is None:
        return found
    missing = [step for step in steps if step not in found.steps]
    if missing:
        there = ", ".join(map(str, found.steps[:40]))
        raise UsageError(f"--steps {','.join(map(str, missing))}: {place} has steps {there}")
    chosen = tuple(sorted(set(steps)))
    if isinstance(found, OwnSeries):
        return replace(found, steps=chosen)
    return replace(found, revisions={step: found.revisions[step] for step in chosen})


def _own(place: str) -> OwnSeries:
    found = open_run(place, "documents")
    run = documents.read_run(found.run_dir)
    sealed = [step for step, path in documents.checkpoint_dirs(found.run_dir) if (path / layout.MANIFEST).is_file()]
    if not sealed:
        raise CheckpointError(f"{found.run_dir}: the run has no complete checkpoint yet")
    if found.step is not None and found.step not in sealed:
        raise UsageError(f"{place}: has no checkpoint of step {found.step}: there are {', '.join(map(str, sealed))}")
    steps = tuple(sealed) if found.step is None else (found.step,)
    if not found.on_hub:
        return OwnSeries(found.run_dir, run, steps)
    _carry_over(found.run_dir, run, sealed)
    commit = found.run_dir.parent.name
    return OwnSeries(found.run_dir, run, steps, f"{HUB}{parse_address(split_step(place)[0]).repo}@{commit}")


def _carry_over(run_dir: Path, run: RunManifest, steps: Sequence[int]) -> None:
    """Take results that were measured here of the same checkpoints when the run's branch stood at another commit."""
    for step in steps:
        checkpoint = sealed_checkpoint(run_dir, step)
        digest = sha256_file(checkpoint / layout.MANIFEST)
        others = []
        for path in run_dir.parent.parent.glob(f"*/{run.name}/{layout.evaluation_file(step)}"):
            other = path.parent.parent
            # What is damaged is told of where it is meant itself.
            with contextlib.suppress(SchemaError):
                if other != run_dir and (theirs := results.read(other, run, step, digest)) is not None:
                    others.append(theirs)
        try:
            ours = results.read(run_dir, run, step, digest)
        except SchemaError:
            continue
        since = _when(ours) if ours is not None else 0.0
        for theirs in sorted(others, key=_when):  # the newest last: it has the last word
            results.add(run_dir, run, step, checkpoint, theirs.tasks, replace=_when(theirs) > since)


def _when(evaluation: Evaluation) -> float:
    return evaluation.created.timestamp()
