"""A run's directory that lost a document or a file: rebuild what can be, say what cannot, and take leave of the rest.

What sealed manifests, `config.yaml` and the other checkpoints still hold is enough for `run.json`, its index and every
file that several checkpoints share (the tokenizer, `config.json`). What only a person may decide, that something is
lost for good, is done where `accept_losses` asks for it. Nothing is deleted: what leaves the history is set aside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pico_schema import CheckpointManifest, FileEntry, RunManifest, SchemaError, documents, layout
from pico_schema.digests import sha256_file
from pico_train.checkpoint import losses, metrics_log, rebuilding, resume, set_aside
from pico_train.checkpoint.history import Problem
from pico_train.checkpoint.lock import RunLock
from pico_train.checkpoint.losses import Loss
from pico_train.checkpoint.storage import Disk, cannot_be_written, replace_file
from pico_train.checkpoint.verify import VerifyReport, verify_run
from pico_train.config import layers
from pico_train.counting import counted
from pico_train.errors import CheckpointError, StorageError


@dataclass
class RepairReport:
    """What `repair_run` did and found."""

    run: str
    """Directory of the run."""
    rebuilt: list[str] = field(default_factory=list)
    """What was made anew, one sentence each."""
    not_rebuilt: list[str] = field(default_factory=list)
    """What could not be known any more, one sentence each."""
    accepted: list[str] = field(default_factory=list)
    """Losses that were accepted, one sentence each."""
    verified: VerifyReport | None = None
    """What `verify` says afterwards."""

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong with the run any more."""
        return self.verified is not None and self.verified.sound

    def as_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "run": self.run,
            "rebuilt": self.rebuilt,
            "not_rebuilt": self.not_rebuilt,
            "accepted": self.accepted,
            "sound": self.sound,
            "problems": [vars(item) for item in self.verified.problems] if self.verified is not None else [],
        }


def check_new_or_begun(run_dir: Path) -> None:
    """See to it that a run may begin or go on in a directory.

    Raises:
        CheckpointError: it holds what is left of a run whose `run.json` is gone or damaged.
    """
    if (run_dir / layout.RUN_MANIFEST).is_file():
        try:
            documents.read_run(run_dir)
        except SchemaError as error:
            raise CheckpointError(f"{error}: put it back, or rebuild it with `pico-train repair {run_dir}`") from None
        return
    steps = [step for step, _ in documents.checkpoint_dirs(run_dir)]
    rows = metrics_log.count(run_dir / layout.METRICS_LOG, first=0)
    evaluations = sorted((run_dir / layout.EVALUATIONS).glob("step-*.json"))
    found = [
        counted(n, what)
        for n, what in ((len(steps), "checkpoint"), (rows, "logged step"), (len(evaluations), "evaluation"))
        if n
    ]
    if found:
        raise CheckpointError(
            f"{run_dir} holds {' and '.join(found)} of a run whose {layout.RUN_MANIFEST} is gone: put it back, rebuild "
            f"it with `pico-train repair {run_dir}`, or begin another run under another name"
        )


def repair_run(
    run_dir: Path,
    *,
    accept_losses: bool = False,
    progress: Callable[[int, str], None] | None = None,
    disk: Disk | None = None,
) -> RepairReport:
    """Rebuild what a run's directory has lost, as far as the rest of it tells.

    Args:
        run_dir: The run.
        accept_losses: Take what is lost for good out of the run's history, and write that down.
        progress: Called with step and path before each file is hashed.
        disk: Where to write.

    Returns:
        What was done, and what `verify` finds afterwards.

    Raises:
        CheckpointError: it is in use, no run, or what is there belongs to more than one run.
        StorageError: it cannot be written. Calling it again goes on.
    """
    disk = disk or Disk()
    if not (run_dir / layout.CHECKPOINTS).is_dir():
        raise CheckpointError(f"{run_dir} is no run's directory: it has no {layout.CHECKPOINTS}/")
    try:
        with RunLock(run_dir):
            return _repair(run_dir, accept_losses, progress, disk)
    except OSError as error:
        raise StorageError(cannot_be_written(run_dir, error)) from error


def _repair(
    run_dir: Path, accept_losses: bool, progress: Callable[[int, str], None] | None, disk: Disk
) -> RepairReport:
    report = RepairReport(str(run_dir))
    manifests = _sealed(run_dir)
    run = rebuilding.run_manifest(run_dir, manifests, report.rebuilt, report.not_rebuilt, disk)
    _list_unlisted(run_dir, run, manifests, report, disk)
    resume.reconcile(run_dir, disk=disk)
    _restore_config(run_dir, report, disk)
    report.verified = verify_run(run_dir, progress=progress)
    if _restore_files(run_dir, manifests, report, disk):
        report.verified = verify_run(run_dir, progress=progress)
    if accept_losses and not report.sound:
        _accept(run_dir, report, disk)
        report.verified = verify_run(run_dir, progress=progress)
    return report


def _sealed(run_dir: Path) -> dict[int, CheckpointManifest]:
    """The manifests that can be read, by step."""
    found = {}
    for step, directory in documents.checkpoint_dirs(run_dir):
        try:
            manifest = documents.read_checkpoint(directory)
        except SchemaError:
            continue
        if manifest.step == step:
            found[step] = manifest
    return found


def _list_unlisted(
    run_dir: Path, run: RunManifest, manifests: Mapping[int, CheckpointManifest], report: RepairReport, disk: Disk
) -> None:
    """Add sealed checkpoints that the index does not list."""
    missing = [step for step in sorted(manifests) if step not in {entry.step for entry in run.checkpoints}]
    if not missing:
        return
    for step in missing:
        run = run.with_checkpoint(resume.index_entry(run_dir / layout.checkpoint_dir(step), manifests[step]))
    replace_file(disk, run_dir / layout.RUN_MANIFEST, documents.dump(run))
    report.rebuilt.append(f"the index of {layout.RUN_MANIFEST} lists steps {', '.join(map(str, missing))} again")
    if len(missing) > 1:
        report.not_rebuilt.append(
            f"{layout.RUN_MANIFEST} was older than these checkpoints: what of the configuration was changed meanwhile, "
            "it does not say"
        )


def _restore_config(run_dir: Path, report: RepairReport, disk: Disk) -> None:
    """`config.yaml` says what `run.json` says, for people."""
    path = run_dir / layout.RUN_CONFIG
    run = documents.read_run(run_dir)
    if path.is_file() or run.config.get("imported"):
        return
    replace_file(disk, path, layers.to_yaml(layers.validate(run.config)).encode())
    report.rebuilt.append(f"{layout.RUN_CONFIG} from {layout.RUN_MANIFEST}")


def _restore_files(
    run_dir: Path, manifests: Mapping[int, CheckpointManifest], report: RepairReport, disk: Disk
) -> bool:
    """Put files back that another checkpoint of the run holds with the same digest: the tokenizer, for one."""
    assert report.verified is not None
    restored = False
    for problem in report.verified.problems:
        manifest = manifests.get(problem.step) if problem.step is not None else None
        entry = manifest.files.get(problem.path) if manifest is not None else None
        if entry is None or problem.step is None or problem.problem not in ("missing", "truncated", "altered"):
            continue
        source = _intact(run_dir, manifests, problem.path, entry)
        if source is None:
            continue
        target = layout.inside(run_dir / layout.checkpoint_dir(problem.step), problem.path)
        if not target.parent.is_dir():
            disk.make_directory(target.parent)
            disk.fsync_directory(target.parent.parent)
        replace_file(disk, target, source.read_bytes())
        step = layout.parse_step_dir(source.relative_to(run_dir / layout.CHECKPOINTS).parts[0])
        report.rebuilt.append(f"{problem.path} of step {problem.step} from step {step}, which has the same")
        restored = True
    return restored


def _intact(run_dir: Path, manifests: Mapping[int, CheckpointManifest], path: str, entry: FileEntry) -> Path | None:
    """The file of another checkpoint that has this content."""
    for step, manifest in manifests.items():
        if manifest.files.get(path) == entry:
            file = layout.inside(run_dir / layout.checkpoint_dir(step), path)
            if file.is_file() and file.stat().st_size == entry.size and sha256_file(file) == entry.sha256:
                return file
    return None


def _accept(run_dir: Path, report: RepairReport, disk: Disk) -> None:
    """Take leave of what is lost. It is written down first; then damaged checkpoints are set aside, and those that are
    gone leave the index."""
    assert report.verified is not None
    run = documents.read_run(run_dir)
    gone = losses.find(run_dir, run)
    damaged = _damaged(run_dir, run, report.verified.problems, {loss.step for loss in gone if loss.step is not None})
    validation = [
        Loss(None, item.path, item.detail)
        for item in report.verified.problems
        if item.step is None and item.path == layout.VALIDATION_ROWS
    ]
    everything = [*gone, *damaged, *validation]
    if not everything:
        return
    losses.accept(run_dir, everything, when=datetime.now(UTC), disk=disk)
    for loss in damaged:
        assert loss.step is not None
        reason = f"its damage was accepted ({loss.detail})"
        set_aside.put_step_aside(run_dir, loss.step, reason=reason, damaged=True, disk=disk)
    run = documents.read_run(run_dir)
    steps = {loss.step for loss in gone if loss.step is not None}
    stay = tuple(entry for entry in run.checkpoints if entry.step not in steps)
    update = {"checkpoints": stay} | ({"validation": None} if validation else {})
    replace_file(disk, run_dir / layout.RUN_MANIFEST, documents.dump(run.model_copy(update=update)))
    report.accepted += [loss.detail for loss in everything]


def _damaged(run_dir: Path, run: RunManifest, problems: list[Problem], gone: set[int]) -> list[Loss]:
    """Checkpoints that are there and not whole, one loss each."""
    digests = {entry.step: entry.manifest_sha256 for entry in run.checkpoints}
    found: dict[int, Loss] = {}
    for item in problems:
        wrong = item.problem in ("missing", "truncated", "altered", "unsafe")
        if item.step is None or not wrong or item.step in gone:
            continue
        if (run_dir / layout.checkpoint_dir(item.step)).is_dir():
            detail = f"step {item.step}: {item.detail}"
            found.setdefault(item.step, Loss(item.step, item.path, detail, digests.get(item.step)))
    return list(found.values())
