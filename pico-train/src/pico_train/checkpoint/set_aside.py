"""Steps that are no longer part of a run's history: kept, but out of its index, in `checkpoints/set_aside/<number>/`.

A run that resumes at step N does everything after N again. What it had sealed, logged and evaluated after N leaves the
index and the log before training begins, so that what they tell is one trajectory at every moment. Each time has a
folder of its own: `note.json` (when, why, which steps), `checkpoints/`, `evaluations/`, `metrics.jsonl`. Where the run
then arrives at the very same weights, the writer takes the old checkpoint back: the same seal, the same digest.

The order of setting aside, each step durable before the next: the note; the index without the steps; the directories,
the last step first; evaluations; the log's lines, then the log without them. Whatever is interrupted is taken up by the
next resume: a sealed checkpoint that the note names and the index does not is listed again, and set aside again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from pico_schema import CheckpointEntry, ConfigChange, Evaluation, SchemaError, documents, layout
from pico_schema.digests import sha256_file
from pico_train.checkpoint import metrics_log, moving
from pico_train.checkpoint.storage import Disk, replace_file
from pico_train.counting import counted
from pico_train.errors import CheckpointError
from pico_train.json_file import read_model


class PublishedStep(BaseModel):
    """A step that is on the Hub although the run has set it aside."""

    model_config = ConfigDict(frozen=True)

    step: int
    repo: str
    tag: str
    commit: str | None


class Note(BaseModel):
    """Why steps were set aside, and what they were."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: int = 1
    when: datetime
    reason: str
    """One clause: "the run went on from step 12 under training.max_steps=48"."""
    damaged: bool = False
    """Whether it is a step of the run's history that was set aside for its damage alone."""
    resumed_from: int | None = None
    """The step from which all that follows was done again; None where single steps were set aside."""
    steps: tuple[CheckpointEntry, ...] = ()
    """Checkpoints that were set aside, as the index had them."""
    lost: tuple[CheckpointEntry, ...] = ()
    """Checkpoints that the index had and that were not there any more."""
    rows: int = 0
    """Lines of metrics.jsonl."""
    files: tuple[str, ...] = ()
    """Files of the run's root."""
    changes: tuple[ConfigChange, ...] = ()
    """Changes of the configuration that had been made after the step: they belong to what was set aside."""
    published: tuple[PublishedStep, ...] = ()
    """Which of the steps are on the Hub."""


@dataclass(frozen=True)
class SetAside:
    """One folder of steps that were set aside, as it is by now."""

    folder: Path
    note: Note
    checkpoints: Mapping[int, Path]
    """Step → directory of those that are still in it: others were taken back."""

    @property
    def notable(self) -> bool:
        """Whether it is more than the line of the step that the run went on from, which that of its update replaced."""
        note = self.note
        return bool(self.checkpoints or note.lost or note.changes or note.files or note.rows > 1)

    @property
    def sentence(self) -> str:
        """What was set aside, for people."""
        what = []
        if self.checkpoints:
            what.append(f"{'step' if len(self.checkpoints) == 1 else 'steps'} {_steps(self.checkpoints)}")
        if self.note.rows:
            what.append(f"{counted(self.note.rows, 'line')} of {layout.METRICS_LOG}")
        what += self.note.files
        if self.note.steps and not self.checkpoints:
            what.append(f"(by now taken back: {_steps(entry.step for entry in self.note.steps)})")
        parts = [
            f"{' and '.join(what) or 'changes of the configuration'} set aside in {self.folder}: {self.note.reason}"
        ]
        if self.note.lost:
            parts.append(f"{_steps(entry.step for entry in self.note.lost)} were missing then")
        parts += [
            f"step {item.step} stays published as {item.repo}@{item.tag}"
            for item in self.note.published
            if item.step in self.checkpoints
        ]
        return "; ".join(parts)


def _steps(steps: Iterable[int]) -> str:
    ordered = sorted(steps)
    return ", ".join(map(str, ordered[:12])) + (f", … ({len(ordered)} in all)" if len(ordered) > 12 else "")


def root(run_dir: Path) -> Path:
    """Where a run keeps what it has set aside."""
    return run_dir / layout.CHECKPOINTS / layout.SET_ASIDE


def listed(run_dir: Path) -> list[SetAside]:
    """Everything that a run has set aside, in the order in which it did.

    Raises:
        CheckpointError: a note is damaged.
    """
    found = []
    for folder in _folders(run_dir):
        path = folder / layout.SET_ASIDE_NOTE
        if not path.is_file():
            continue  # interrupted before anything was moved
        try:
            note = read_model(path, Note)
        except (OSError, ValueError):
            raise CheckpointError(
                f"{path}: cannot be read: restore it, or move {folder} out of the run to forget what was set aside"
            ) from None
        found.append(SetAside(folder, note, dict(documents.checkpoint_dirs(folder))))
    return found


def _folders(run_dir: Path) -> list[Path]:
    place = root(run_dir)
    found = [path for path in place.iterdir() if path.name.isdecimal()] if place.is_dir() else []
    return sorted(found, key=lambda path: int(path.name))


def known_digests(run_dir: Path) -> set[tuple[int, str]]:
    """Step and manifest digest of everything that was ever set aside, taken back or not."""
    return {(entry.step, entry.manifest_sha256) for item in listed(run_dir) for entry in item.note.steps}


def put_aside_after(
    run_dir: Path,
    step: int | None,
    *,
    reason: str,
    changes: Iterable[ConfigChange] = (),
    published: Callable[[Iterable[int]], Iterable[PublishedStep]] = lambda _: (),
    disk: Disk | None = None,
) -> SetAside | None:
    """Set aside all that a run did after `step`, before it does it again. Call it while holding the run's lock.

    Args:
        run_dir: The run.
        step: The step it resumes from; None where it begins anew.
        reason: Why, for people.
        changes: Changes of the configuration that were made after the step.
        published: Says which steps are on the Hub.
        disk: Where.

    Returns:
        What was set aside; None if nothing had been done after the step.

    Raises:
        OSError: the disk refused; calling it again goes on.
    """
    disk = disk or Disk()
    first, first_row = (0, 0) if step is None else (step + 1, step)
    run = documents.read_run(run_dir)
    here = {number: path for number, path in documents.checkpoint_dirs(run_dir) if number >= first}
    lost = [entry for entry in run.checkpoints if entry.step >= first and entry.step not in here]
    log = run_dir / layout.METRICS_LOG
    rows = metrics_log.count(log, first=first_row)
    changes = tuple(changes)
    if not (here or lost or rows or changes):
        metrics_log.cut(log, first_dropped=first_row, disk=disk)
        return None
    note = Note(
        when=datetime.now(UTC),
        reason=reason,
        resumed_from=step,
        steps=moving.index_entries(run, here),
        lost=tuple(lost),
        rows=rows,
        changes=changes,
        published=tuple(published(here)),
    )
    folder = _new_folder(run_dir, note, disk)
    moving.leave_index(run_dir, run, lambda number: number >= first, disk)
    moving.move_checkpoints(run_dir, here, folder, disk)
    for path in _evaluations(run_dir):
        number = layout.parse_step_dir(path.stem)
        if number is not None and number >= first and number not in here:
            moving.move_file(path, folder / layout.EVALUATIONS / path.name, disk)
    metrics_log.cut(log, first_dropped=first_row, aside=folder / layout.METRICS_LOG, disk=disk)
    return SetAside(folder, note, dict(documents.checkpoint_dirs(folder)))


def put_step_aside(
    run_dir: Path, step: int, *, reason: str, damaged: bool = False, disk: Disk | None = None
) -> SetAside:
    """Set aside one checkpoint: a damaged one, or one whose weights are not those that the run arrives at."""
    disk = disk or Disk()
    run = documents.read_run(run_dir)
    here = {step: run_dir / layout.checkpoint_dir(step)}
    steps = moving.index_entries(run, here)
    folder = _new_folder(run_dir, Note(when=datetime.now(UTC), reason=reason, damaged=damaged, steps=steps), disk)
    moving.leave_index(run_dir, run, lambda number: number == step, disk)
    moving.move_checkpoints(run_dir, here, folder, disk)
    return listed(run_dir)[-1]


def put_file_aside(run_dir: Path, name: str, *, reason: str, disk: Disk | None = None) -> None:
    """Keep a copy of a file of the run's root, before another takes its place."""
    disk = disk or Disk()
    folder = _new_folder(run_dir, Note(when=datetime.now(UTC), reason=reason, files=(name,)), disk)
    replace_file(disk, folder / name, (run_dir / name).read_bytes())


def copies(run_dir: Path, step: int) -> list[tuple[Path, str]]:
    """Directories of this step that were set aside, the newest first, each with the digest that its manifest had."""
    return [
        (item.checkpoints[step], entry.manifest_sha256)
        for item in reversed(listed(run_dir))
        for entry in item.note.steps
        if entry.step == step and step in item.checkpoints
    ]


def take_back(run_dir: Path, directory: Path, *, disk: Disk | None = None) -> Path:
    """Make a checkpoint that was set aside part of the run again, with its evaluation; the index is the caller's.

    Returns:
        Its directory.
    """
    disk = disk or Disk()
    target = run_dir / layout.CHECKPOINTS / directory.name
    disk.rename(directory, target)
    disk.fsync_directory(target.parent)
    disk.fsync_directory(directory.parent)
    take_back_evaluation(run_dir, target, disk=disk)
    return target


def take_back_evaluation(run_dir: Path, directory: Path, *, disk: Disk | None = None) -> None:
    """Put the evaluation of a sealed checkpoint back beside it, if it was set aside and is of this very checkpoint."""
    target = run_dir / layout.EVALUATIONS / f"{directory.name}.json"
    if target.exists():
        return
    digest = sha256_file(directory / layout.MANIFEST)
    for item in reversed(listed(run_dir)):
        path = item.folder / layout.EVALUATIONS / target.name
        if not path.is_file():
            continue
        try:
            same = documents.read(path, Evaluation).manifest_sha256 == digest
        except SchemaError:
            continue
        if same:
            moving.move_file(path, target, disk or Disk())
            return


def forget_repeated(run_dir: Path, *, disk: Disk | None = None) -> None:
    """Remove the folders of which nothing differs from the run's history.

    There each checkpoint was taken back, and each line of the log was written again with the same values (times, speed
    and memory apart).
    """
    disk = disk or Disk()
    for folder in _folders(run_dir):
        if not any(folder.iterdir()):
            disk.remove(folder)
    rows: dict[int, dict[str, Any]] | None = None
    for item in listed(run_dir):
        log = item.folder / layout.METRICS_LOG
        held = {path.name for path in item.folder.rglob("*") if path.is_file()}
        others = held - {layout.SET_ASIDE_NOTE, layout.METRICS_LOG}
        if item.note.lost or item.note.changes or item.note.files or others:
            continue
        if rows is None:
            rows = {row["step"]: _values(row) for row in metrics_log.read(run_dir / layout.METRICS_LOG)}
        # the line of a run's last step knows no learning rate; where the run is made longer, it gets one
        if all(_values(row).items() <= rows.get(row["step"], {}).items() for row in metrics_log.read(log)):
            disk.remove(item.folder)
            disk.fsync_directory(item.folder.parent)


def _values(row: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the log without what depends on the clock and the machine."""
    own = ("tokens_per_second", "memory_bytes", "mfu")
    return {name: value for name, value in row.items() if name not in own and not name.startswith("seconds/")}


def _new_folder(run_dir: Path, note: Note, disk: Disk) -> Path:
    place = root(run_dir)
    if not place.is_dir():
        disk.make_directory(place)
        disk.fsync_directory(place.parent)
    taken = _folders(run_dir)
    folder = place / f"{int(taken[-1].name) + 1 if taken else 1:04d}"
    disk.make_directory(folder)
    replace_file(disk, folder / layout.SET_ASIDE_NOTE, note.model_dump_json(indent=1).encode() + b"\n")
    disk.fsync_directory(place)
    return folder


def _evaluations(run_dir: Path) -> list[Path]:
    return sorted((run_dir / layout.EVALUATIONS).glob("step-*.json"))
