"""How a run goes on: which checkpoint it resumes from, and what a crash left behind.

A checkpoint is trusted only after its files have been hashed against its manifest. Everything here is for rank 0;
the others are told the step.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from pico_schema import (
    CheckpointEntry,
    CheckpointManifest,
    Finding,
    SchemaError,
    documents,
    layout,
)
from pico_schema.digests import sha256_file
from pico_train.checkpoint.retention import has_training_state, is_pruned, without_pruned
from pico_train.checkpoint.storage import Disk, replace_file
from pico_train.errors import CheckpointError


@dataclass(frozen=True)
class Sealed:
    """A complete checkpoint that was found whole."""

    step: int
    """Updates done."""
    directory: Path
    """Where it is."""
    manifest: CheckpointManifest
    """What it holds."""


def digests(run_dir: Path) -> dict[int, str]:
    """Step → digest of its manifest, as the run's index has it."""
    return {entry.step: entry.manifest_sha256 for entry in documents.read_run(run_dir).checkpoints}


def damage(directory: Path, *, manifest_sha256: str | None = None) -> list[Finding]:
    """What is missing from a checkpoint or differs from what was sealed; empty if it is whole.

    Files that were added, and a training state that the policy removed, are no damage.

    Args:
        directory: The checkpoint.
        manifest_sha256: Digest of its manifest according to the run's index, where it is listed there.
    """
    try:
        manifest = documents.read_checkpoint(directory)
    except SchemaError as error:
        return [
            Finding("altered" if (directory / layout.MANIFEST).exists() else "missing", layout.MANIFEST, str(error))
        ]
    if layout.parse_step_dir(directory.name) not in (manifest.step, None):
        detail = f"{layout.MANIFEST} is that of step {manifest.step}"
        return [Finding("altered", layout.MANIFEST, detail)]
    if manifest_sha256 is not None and sha256_file(directory / layout.MANIFEST) != manifest_sha256:
        detail = f"{layout.MANIFEST} does not have the digest that {layout.RUN_MANIFEST} lists"
        return [Finding("altered", layout.MANIFEST, detail)]
    findings = without_pruned(directory, manifest, documents.verify_checkpoint(directory, manifest))
    return [item for item in findings if item.problem != "unexpected"]


def newest_complete(run_dir: Path, *, training_state: bool = True, step: int | None = None) -> Sealed | None:
    """The newest checkpoint that is whole; each damaged one on the way there is a warning that names the file.

    Args:
        run_dir: The run.
        training_state: Only those that training can go on from.
        step: Only this one, and no falling back.

    Returns:
        The checkpoint, verified by hash; None if the run has none that was ever sealed (with a training state).

    Raises:
        CheckpointError: there are checkpoints, but each is damaged; or the one asked for is, or does not exist.
    """
    run_id, listed = documents.read_run(run_dir).id, digests(run_dir)
    bad: list[str] = []
    for number, directory in reversed(list(documents.checkpoint_dirs(run_dir))):
        if step is not None and number != step:
            continue
        manifest = _manifest(directory)
        if manifest is not None and training_state:
            if not has_training_state(manifest) or is_pruned(directory, manifest):
                continue
            if manifest.run_id != run_id:
                bad.append(f"{directory}: {layout.MANIFEST} is that of another run ({manifest.run_id})")
                warnings.warn(f"{bad[-1]}; trying an earlier one", RuntimeWarning, stacklevel=2)
                continue
        findings = damage(directory, manifest_sha256=listed.get(number))
        if not findings:
            return Sealed(number, directory, documents.read_checkpoint(directory))
        bad.append(f"{directory}: {findings[0].detail}")
        if step is None:
            warnings.warn(f"checkpoint damaged: {bad[-1]}; trying an earlier one", RuntimeWarning, stacklevel=2)
    if step is not None and not bad:
        what = " with a training state" if training_state else ""
        raise CheckpointError(f"{run_dir} has no checkpoint of step {step}{what}: see `pico-train inspect {run_dir}`")
    if bad:
        raise CheckpointError(f"no usable checkpoint in {run_dir}: {'; '.join(bad)}")
    return None


def _manifest(directory: Path) -> CheckpointManifest | None:
    try:
        return documents.read_checkpoint(directory)
    except SchemaError:
        return None


def index_entry(directory: Path, manifest: CheckpointManifest) -> CheckpointEntry:
    """The line of the run's index for a checkpoint that is on disk."""
    return CheckpointEntry(
        step=manifest.step,
        tokens_seen=manifest.tokens_seen,
        manifest_sha256=sha256_file(directory / layout.MANIFEST),
    )


def reconcile(run_dir: Path, *, disk: Disk | None = None) -> list[str]:
    """Tidy up after a crash: remove what was being written, and make the index list exactly what is sealed.

    Call it while holding the run's lock. A checkpoint that was sealed just before the crash, and so is not in the
    index, is added; a damaged manifest leaves the index.

    Returns:
        Names of what was removed.
    """
    disk = disk or Disk()
    removed = []
    root = run_dir / layout.CHECKPOINTS
    litter = [path for path in (root.iterdir() if root.is_dir() else []) if path.name.startswith(".tmp-")]
    for folder in (run_dir, run_dir / layout.EVALUATIONS):
        litter += [path for path in folder.glob(".*.tmp") if path.is_file()]
    for path in litter:
        disk.remove(path)
        removed.append(path.name)

    run = documents.read_run(run_dir)
    entries = []
    known = {entry.step: entry for entry in run.checkpoints}
    for step, directory in documents.checkpoint_dirs(run_dir):
        manifest = _manifest(directory)
        if step in known:
            entries.append(known[step])
        elif manifest is not None and manifest.step == step and manifest.run_id == run.id:
            entries.append(index_entry(directory, manifest))
    if tuple(entries) != run.checkpoints:
        content = documents.dump(run.model_copy(update={"checkpoints": tuple(entries)}))
        replace_file(disk, run_dir / layout.RUN_MANIFEST, content)
    return removed
