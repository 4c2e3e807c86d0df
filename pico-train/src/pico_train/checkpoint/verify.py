"""Is what was sealed still there? Re-hashes checkpoints against their manifests, and those against the run's index."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pico_schema import CheckpointManifest, RunManifest, SchemaError, documents, layout
from pico_schema.digests import sha256_file
from pico_train.checkpoint import history, losses, set_aside, validation_rows
from pico_train.checkpoint.history import Problem
from pico_train.checkpoint.retention import has_training_state, is_pruned, kept, without_pruned
from pico_train.config import KeepPolicy
from pico_train.errors import UsageError


@dataclass
class VerifyReport:
    """What `verify_run` found."""

    run: str
    """Directory of the run."""
    name: str
    """Its name."""
    steps: list[int] = field(default_factory=list)
    """Checkpoints that were looked at."""
    n_files: int = 0
    """Files that were hashed."""
    n_bytes: int = 0
    """Bytes that were hashed."""
    pruned: list[int] = field(default_factory=list)
    """Steps whose training state the run's policy has removed: no damage."""
    set_aside: list[str] = field(default_factory=list)
    """What is no part of the run's history any more, and why, one sentence each: no damage."""
    accepted: list[str] = field(default_factory=list)
    """Losses that a person has accepted, one sentence each: no damage."""
    problems: list[Problem] = field(default_factory=list)
    """Everything wrong; empty if all is sound."""

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "run": self.run,
            "name": self.name,
            "sound": self.sound,
            "steps": self.steps,
            "n_files": self.n_files,
            "n_bytes": self.n_bytes,
            "pruned": self.pruned,
            "set_aside": self.set_aside,
            "accepted": self.accepted,
            "problems": [vars(item) for item in self.problems],
        }


def verify_run(
    run_dir: Path, *, step: int | None = None, progress: Callable[[int, str], None] | None = None
) -> VerifyReport:
    """Re-hash the checkpoints of a run.

    Args:
        run_dir: The run.
        step: Only this checkpoint; its weights are compared with what the others' manifests say of theirs.
        progress: Called with step and path before each file is hashed.

    Returns:
        Everything missing, truncated, altered, unexpected or held twice, and where the documents tell of two histories.

    Raises:
        UsageError: the run has no checkpoint of that step.
        IncompleteError: the directory is not a run.
    """
    run = documents.read_run(run_dir)
    found = dict(documents.checkpoint_dirs(run_dir))
    listed = {entry.step: entry.manifest_sha256 for entry in run.checkpoints}
    steps = sorted({*found, *listed})
    if step is not None and step not in steps:
        raise UsageError(f"{run_dir} has no checkpoint of step {step}: {_choices(steps)}")
    report = VerifyReport(str(run_dir), run.name, steps=steps if step is None else [step])
    manifests: dict[int, CheckpointManifest] = {}
    for number in steps:
        checked = number in report.steps
        problems, manifest = _manifest(run, number, found.get(number), listed.get(number))
        if manifest is not None:
            manifests[number] = manifest
        if checked:
            report.problems += problems
    for number in report.steps:
        if number in manifests:
            _contents(report, found[number], manifests[number], progress)
    with_state = [number for number, manifest in manifests.items() if has_training_state(manifest)]
    _training_states(report, run, with_state)
    report.problems += [item for item in _duplicates(manifests) if item.step in report.steps]
    report.problems += [item for item in history.contradictions(run_dir, run, manifests) if item.step in report.steps]
    if step is None:
        _validation_rows(report, run_dir, run)
        report.problems += [
            Problem(loss.step, "missing", loss.path, loss.detail)
            for loss in losses.find(run_dir, run)
            if loss.step is None or (loss.step not in listed and loss.step not in found)
        ]
        report.problems += history.damaged_documents(run_dir, run)
        report.set_aside = [item.sentence for item in set_aside.listed(run_dir) if item.notable]
        report.accepted = [f"{item.detail} (accepted {item.when:%Y-%m-%d})" for item in losses.accepted(run_dir)]
    report.problems.sort(key=lambda item: (-1 if item.step is None else item.step, item.path))
    return report


def _manifest(
    run: RunManifest, step: int, directory: Path | None, digest: str | None
) -> tuple[list[Problem], CheckpointManifest | None]:
    """The manifest of a checkpoint, if its content can be checked against it, and what is wrong with it."""
    if directory is None:
        return [Problem(step, "missing", "", f"step {step} is listed in {layout.RUN_MANIFEST}, but not there")], None
    path = directory / layout.MANIFEST
    if not path.is_file():
        detail = f"{layout.MANIFEST} is missing: the checkpoint was never finished, or it was removed"
        return [Problem(step, "missing", layout.MANIFEST, detail)], None
    if digest is not None and sha256_file(path) != digest:
        detail = f"{layout.MANIFEST} does not have the digest that {layout.RUN_MANIFEST} lists"
        return [Problem(step, "altered", layout.MANIFEST, detail)], None
    try:
        manifest = documents.read_checkpoint(directory)
    except SchemaError as error:
        return [Problem(step, "altered", layout.MANIFEST, str(error))], None
    problems = []
    if digest is None:
        detail = f"step {step} is not listed in {layout.RUN_MANIFEST}: `pico-train repair` lists it"
        problems.append(Problem(step, "unexpected", "", detail))
    if manifest.step != step or manifest.run_id != run.id:
        detail = f"{layout.MANIFEST} is that of step {manifest.step} of run {manifest.run_id}"
        problems.append(Problem(step, "altered", layout.MANIFEST, detail))
    return problems, manifest


def _contents(
    report: VerifyReport,
    directory: Path,
    manifest: CheckpointManifest,
    progress: Callable[[int, str], None] | None,
) -> None:
    """Hash the files of one checkpoint."""
    step = layout.parse_step_dir(directory.name)
    assert step is not None
    tell = (lambda path: progress(step, path)) if progress else None
    findings = without_pruned(directory, manifest, documents.verify_checkpoint(directory, manifest, progress=tell))
    report.problems += [Problem(step, item.problem, item.path, item.detail) for item in findings]
    if is_pruned(directory, manifest):
        report.pruned.append(step)
    for path, entry in manifest.files.items():
        if (directory / path).is_file():
            report.n_files += 1
            report.n_bytes += entry.size


def _training_states(
    report: VerifyReport,
    run: RunManifest,
    with_state: list[int],
) -> None:
    """A training state that is gone as a whole is damage unless the run's policy has removed it."""
    policy = KeepPolicy.model_validate(run.config.get("checkpoint", {}).get("keep", {}))
    ever = [KeepPolicy()] if policy == KeepPolicy() else [policy]
    ever += [KeepPolicy.model_validate(change.before) for change in run.changes if change.field == "checkpoint.keep"]
    stays = set.intersection(*(kept(item, with_state) for item in ever))
    for step in list(report.pruned):
        if step in stays:
            report.pruned.remove(step)
            detail = f"{layout.TRAINING_STATE} is missing, and the run's policy keeps it"
            report.problems.append(Problem(step, "missing", layout.TRAINING_STATE, detail))


def _validation_rows(report: VerifyReport, run_dir: Path, run: RunManifest) -> None:
    """The run's stored validation rows, against what its manifest says of them."""
    wrong = validation_rows.damage(run_dir, run)
    path = run_dir / layout.VALIDATION_ROWS
    if wrong is not None:
        report.problems.append(Problem(None, "altered" if path.is_file() else "missing", path.name, wrong))
    if run.validation is not None and path.is_file():
        report.n_files += 1
        report.n_bytes += run.validation.size


def _duplicates(manifests: dict[int, CheckpointManifest]) -> list[Problem]:
    """Steps whose weights are those of an earlier step: training changed nothing, or one was written over the other."""
    first: dict[str, int] = {}
    problems = []
    for step, manifest in sorted(manifests.items()):
        entry = manifest.files.get(layout.WEIGHTS)
        if entry is None:
            continue
        if entry.sha256 in first:
            detail = f"{layout.WEIGHTS} of step {step} is identical to that of step {first[entry.sha256]}"
            problems.append(Problem(step, "duplicate", layout.WEIGHTS, detail))
        else:
            first[entry.sha256] = step
    return problems


def _choices(steps: list[int]) -> str:
    if not steps:
        return "it has none"
    shown = ", ".join(map(str, steps[:20])) + (", …" if len(steps) > 20 else "")
    return f"there are {shown}"
