"""Which training states stay on disk. Weights and captures always do.

Removing one is part of what was agreed when the run began, not damage: a checkpoint whose `training_state/` is gone
as a whole, and which the policy does not keep, is *pruned*. A part of it missing, or a kept one, is damage.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pico_schema import CheckpointManifest, Finding, documents, layout
from pico_train.checkpoint.storage import Disk
from pico_train.config import KeepPolicy

PRUNED = ".tmp-pruned-"
"""How the name of a training state begins while it is being removed."""


def kept(policy: KeepPolicy, steps: Iterable[int]) -> set[int]:
    """Those of `steps` (checkpoints that were sealed with a training state) whose training state stays.

    Without a policy all stay. The newest always stays, since a resume needs it.
    """
    ordered = sorted(steps)
    if policy.last is None and policy.every is None:
        return set(ordered)
    stays = set(ordered[-(policy.last or 1) :])
    if policy.every is not None:
        stays.update(step for step in ordered if step % policy.every == 0)
    return stays


def has_training_state(manifest: CheckpointManifest) -> bool:
    """Whether the checkpoint was sealed with a training state."""
    return any(in_training_state(path) for path in manifest.files)


def in_training_state(path: str) -> bool:
    """Whether this file of a checkpoint is part of its training state."""
    return path.startswith(f"{layout.TRAINING_STATE}/")


def is_pruned(directory: Path, manifest: CheckpointManifest) -> bool:
    """Whether the checkpoint was sealed with a training state that has since been removed as a whole."""
    return has_training_state(manifest) and not (directory / layout.TRAINING_STATE).exists()


def without_pruned(directory: Path, manifest: CheckpointManifest, findings: list[Finding]) -> list[Finding]:
    """`findings` of a verification without those that are due to the removal of the training state as a whole."""
    if not is_pruned(directory, manifest):
        return findings
    return [item for item in findings if not (item.problem == "missing" and in_training_state(item.path))]


def prune(run_dir: Path, policy: KeepPolicy, *, disk: Disk, protected: set[int]) -> list[int]:
    """Remove the training states that `policy` does not keep.

    Each goes in one rename, so that it is either whole or absent; then its files are removed.

    Args:
        run_dir: The run.
        policy: What stays.
        disk: Where.
        protected: Steps to leave alone for now.

    Returns:
        The steps whose training state was removed.
    """
    if policy.last is None and policy.every is None:
        return []
    present = [
        (step, path / layout.TRAINING_STATE)
        for step, path in documents.checkpoint_dirs(run_dir)
        if (path / layout.TRAINING_STATE).is_dir() and not path.is_symlink()
    ]
    stays = kept(policy, (step for step, _ in present)) | protected
    removed = []
    for step, path in present:
        if step not in stays:
            aside = run_dir / layout.CHECKPOINTS / f"{PRUNED}{step}"
            disk.remove(aside)
            disk.rename(path, aside)
            disk.fsync_directory(path.parent)
            disk.remove(aside)
            removed.append(step)
    return removed
