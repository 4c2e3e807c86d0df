"""How checkpoints and small files of a run change their place: durably, so that nothing is in neither place.

Every call goes through a `Disk`. What is moved, and why, `set_aside` decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from pico_schema import CheckpointEntry, RunManifest, documents, layout
from pico_schema.digests import sha256_file
from pico_train.checkpoint.storage import Disk, replace_file
from pico_train.json_file import read_json


def index_entries(run: RunManifest, here: Mapping[int, Path]) -> tuple[CheckpointEntry, ...]:
    """The lines of the index for the checkpoints that are there; for one that it does not list, what it would say."""
    entries = {entry.step: entry for entry in run.checkpoints if entry.step in here}
    for step, directory in here.items():
        path = directory / layout.MANIFEST
        if step not in entries and path.is_file():
            entries[step] = CheckpointEntry(step=step, tokens_seen=_tokens(path), manifest_sha256=sha256_file(path))
    return tuple(entries[step] for step in sorted(entries))


def _tokens(manifest: Path) -> int:
    """Tokens of a checkpoint that the index does not list; 0 where its manifest cannot be read."""
    try:
        tokens = read_json(manifest)["tokens_seen"]
    except (ValueError, KeyError, TypeError):
        return 0
    return tokens if type(tokens) is int and 0 <= tokens <= 2**62 else 0


def leave_index(run_dir: Path, run: RunManifest, leaves: Callable[[int], bool], disk: Disk) -> None:
    """Take the steps that `leaves` says out of the run's index."""
    stay = tuple(entry for entry in run.checkpoints if not leaves(entry.step))
    if stay != run.checkpoints:
        content = documents.dump(run.model_copy(update={"checkpoints": stay}))
        replace_file(disk, run_dir / layout.RUN_MANIFEST, content)


def move_checkpoints(run_dir: Path, here: Mapping[int, Path], folder: Path, disk: Disk) -> None:
    """Move checkpoints and their evaluations into a folder, the last step first: what stays is a run without holes."""
    if not here:
        return
    target = folder / layout.CHECKPOINTS
    disk.make_directory(target)
    disk.fsync_directory(folder)
    for step in sorted(here, reverse=True):
        evaluation = run_dir / layout.evaluation_file(step)
        if evaluation.is_file():
            move_file(evaluation, folder / layout.EVALUATIONS / evaluation.name, disk)
        disk.rename(here[step], target / here[step].name)
    disk.fsync_directory(target)
    disk.fsync_directory(run_dir / layout.CHECKPOINTS)


def move_file(source: Path, target: Path, disk: Disk) -> None:
    """Move a small file, which may lie on another file system: it is in both places for a moment, never in none."""
    if not target.parent.is_dir():
        disk.make_directory(target.parent)
        disk.fsync_directory(target.parent.parent)
    if not target.exists():
        replace_file(disk, target, source.read_bytes())
    disk.remove(source)
    disk.fsync_directory(source.parent)
