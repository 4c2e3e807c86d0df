"""Results beside a sealed checkpoint, `evaluations/step-N.json`, and as flat names for logs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from pico_schema import Evaluation, Producer, RunManifest, SchemaError, documents, layout
from pico_schema.digests import sha256_file
from pico_schema.files import replace_file
from pico_train.errors import DataError
from pico_train.training.step import Tasks
from pico_train.version import __version__

PRODUCER = Producer(name="pico-train", version=__version__)
PREFIX = "eval"
"""What names of results begin with in logs and tables: ``eval/<task>/<measure>``."""
_OF_PARTS = ("loss", "bits_per_byte", "accuracy")
"""Measures of a source or a phenomenon that are logged; the document holds all."""


def read(run_dir: Path, run: RunManifest, step: int, manifest_sha256: str) -> Evaluation | None:
    """What is known of a checkpoint; None where nothing is, or only of another checkpoint of this step.

    Raises:
        SchemaError: the document is damaged.
    """
    path = run_dir / layout.evaluation_file(step)
    if not path.is_file():
        return None
    found = documents.read(path, Evaluation)
    same = (found.run_id, found.step, found.manifest_sha256) == (run.id, step, manifest_sha256)
    return found if same else None


def add(run_dir: Path, run: RunManifest, step: int, checkpoint: Path, tasks: Tasks, *, replace: bool = False) -> None:
    """Put results beside a sealed checkpoint, with those that are there already.

    Args:
        run_dir: The run.
        run: Its manifest.
        step: The step.
        checkpoint: Directory of the checkpoint; it stays as it is.
        tasks: The results.
        replace: Whether they take the place of results of the same tasks.

    Raises:
        DataError: there is a damaged document of this step.
        OSError: the disk refused.
    """
    digest = sha256_file(checkpoint / layout.MANIFEST)
    path = run_dir / layout.evaluation_file(step)
    try:
        known = read(run_dir, run, step, digest)
    except SchemaError as error:
        raise DataError(f"{error}: move it away, and evaluate again") from None
    before = known.tasks if known is not None else {}
    merged = together(before, tasks) if replace else {**tasks, **before}
    if known is not None and merged == before:
        return
    evaluation = Evaluation(
        run_id=run.id,
        step=step,
        manifest_sha256=digest,
        created=datetime.now(UTC),
        producer=PRODUCER,
        tasks=merged,
    )
    path.parent.mkdir(exist_ok=True)
    replace_file(path, documents.dump(evaluation))


def together(before: Tasks, new: Tasks) -> Tasks:
    """Results with new ones in the place of those of the same tasks, whose parts (``task/part``) may be others now."""
    stays = {name: of for name, of in before.items() if name.partition("/")[0] not in new}
    return {**stays, **new}


def add_while_training(run_dir: Path, run: RunManifest, step: int, checkpoint: Path, tasks: Tasks) -> None:
    """As `add`; a document that is damaged is left as it is and told of, since training goes on."""
    try:
        add(run_dir, run, step, checkpoint, tasks)
    except DataError as error:
        warnings.warn(f"{error} (`pico-train verify` names it)", RuntimeWarning, stacklevel=2)


def logged(tasks: Mapping[str, Mapping[str, float | int | str | None]]) -> dict[str, float | int]:
    """Results by ``eval/<task>/<measure>``, without counts; of sources and phenomena the main measures alone."""
    return {
        f"{PREFIX}/{task}/{measure}": value
        for task, measures in tasks.items()
        for measure, value in measures.items()
        if isinstance(value, int | float) and not measure.startswith("n_") and ("/" not in task or measure in _OF_PARTS)
    }
