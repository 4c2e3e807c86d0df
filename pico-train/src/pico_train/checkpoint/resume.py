"""How a run goes on: which checkpoint it resumes from, and what a crash left behind.

A checkpoint is trusted only after its files have been hashed against its manifest. Everything here is for rank 0;
the others are told the step.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path

from pico_schema import (
    CheckpointEntry,
    CheckpointManifest,
    Finding,
    RunManifest,
    SchemaError,
    documents,
    layout,
)
from pico_schema.digests import sha256_file
from pico_train.checkpoint import set_aside
from pico_train.checkpoint.contents import CheckpointContents
from pico_train.checkpoint.retention import has_training_state, is_pruned, without_pruned
from pico_train.checkpoint.storage import Disk, replace_file
from pico_train.checkpoint.tensorfile import safetensors_chunks
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
    listed = digests(run_dir)
    bad: list[str] = []
    for number, directory in reversed(list(documents.checkpoint_dirs(run_dir))):
        if step is not None and number != step:
            continue
        manifest = _manifest(directory)
        resumable = manifest is None or (has_training_state(manifest) and not is_pruned(directory, manifest))
        if training_state and not resumable:
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


def holds_weights(directory: Path, contents: CheckpointContents) -> bool:
    """Whether a sealed checkpoint has exactly the weights of `contents`."""
    digest = hashlib.sha256()
    for chunk in safetensors_chunks(contents.weights, {"format": "pt"}):
        digest.update(chunk)
    return documents.read_checkpoint(directory).weights_sha256 == digest.hexdigest()


def holds(directory: Path, contents: CheckpointContents) -> bool:
    """Whether a sealed checkpoint is the one that `contents` would become: the same run, weights, data and captures."""
    manifest = documents.read_checkpoint(directory)
    metrics = contents.manifest.get("metrics", {})
    return (
        all(getattr(manifest, name) == contents.manifest[name] for name in _IDENTITY if name in contents.manifest)
        and manifest.data.sha256 == contents.manifest["data"].sha256
        and all(manifest.metrics[name] == metrics[name] for name in manifest.metrics.keys() & metrics.keys())
        and all(manifest.capture(item.capture.split) == item.capture for item in contents.captures)
        and (contents.batch is None or layout.TRAIN_BATCH in manifest.files)
        and (contents.training_state is None or (has_training_state(manifest) and not is_pruned(directory, manifest)))
        and holds_weights(directory, contents)
    )


_IDENTITY = ("run_id", "tokens_seen", "seed", "model", "cursor", "batch_sha256", "weights_dtype")
"""Fields of a manifest in which two checkpoints of one trajectory agree."""


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


def check_belongs(run_dir: Path, run: RunManifest) -> None:
    """See to it that `run.json` is that of the checkpoints beside it, and not an older copy of it.

    Raises:
        CheckpointError: a checkpoint is another run's, or several are sealed that the index does not list: no crash
            leaves more than one.
    """
    entries = {entry.step for entry in run.checkpoints}
    known, unlisted = set_aside.known_digests(run_dir), []
    for step, directory in documents.checkpoint_dirs(run_dir):
        manifest = _manifest(directory)
        if manifest is None or manifest.step != step:
            continue  # damaged: `damage` says how
        if manifest.run_id != run.id:
            raise CheckpointError(
                f"{run_dir}: {layout.RUN_MANIFEST} is that of run {run.id}, step {step} is of run {manifest.run_id}: "
                f"put the right {layout.RUN_MANIFEST} back, or see `pico-train repair {run_dir}`"
            )
        if step not in entries and (step, sha256_file(directory / layout.MANIFEST)) not in known:
            unlisted.append(step)
    if len(unlisted) > 1:
        raise CheckpointError(
            f"{run_dir}: {layout.RUN_MANIFEST} is older than its checkpoints: it does not list steps "
            f"{', '.join(map(str, unlisted[:12]))}: put the newest {layout.RUN_MANIFEST} back, or list them with "
            f"`pico-train repair {run_dir}`"
        )


def reconcile(run_dir: Path, *, disk: Disk | None = None) -> list[str]:
    """Tidy up after a crash: remove what was being written, and list the checkpoint that was sealed just before it.

    Call it while holding the run's lock. What the index lists and is not there any more stays in the index: that is a
    loss, which only a person may accept (`losses`).

    Returns:
        Names of what was removed.

    Raises:
        CheckpointError: as `check_belongs`.
    """
    disk = disk or Disk()
    removed = []
    for path in _litter(run_dir):
        disk.remove(path)
        removed.append(path.name)

    run = documents.read_run(run_dir)
    check_belongs(run_dir, run)
    entries = {entry.step: entry for entry in run.checkpoints}
    for step, directory in documents.checkpoint_dirs(run_dir):
        manifest = _manifest(directory)
        if step not in entries and manifest is not None and manifest.step == step:
            entries[step] = index_entry(directory, manifest)
    index = tuple(entries[step] for step in sorted(entries))
    if index != run.checkpoints:
        content = documents.dump(run.model_copy(update={"checkpoints": index}))
        replace_file(disk, run_dir / layout.RUN_MANIFEST, content)
    return removed


def _litter(run_dir: Path) -> list[Path]:
    """What a killed process was writing."""
    root = run_dir / layout.CHECKPOINTS
    found = [path for path in (root.iterdir() if root.is_dir() else []) if path.name.startswith(".tmp-")]
    aside = set_aside.root(run_dir)
    folders = [run_dir, run_dir / layout.EVALUATIONS, *(path for path in aside.glob("*/") if path.is_dir())]
    folders += [path / layout.EVALUATIONS for path in folders[2:]]
    folders += [path for _, path in documents.checkpoint_dirs(run_dir) if not path.is_symlink()]  # repair writes there
    return found + [path for folder in folders for path in folder.glob(".*.tmp") if path.is_file()]
