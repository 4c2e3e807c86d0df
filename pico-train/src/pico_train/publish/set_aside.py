"""Steps that a run sets aside, as publishing sees them: which are on the Hub, that none is sent meanwhile, and what a
branch's index has to say of them.

An index lists the run's own trajectory as revisions, and what was published of others apart. What it has to say is a
pure function of what it says and of the run on this disk, the `Trajectory`: whoever asks again gets the same answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pico_schema import RevisionIndex, SetAsideRevision, documents, layout
from pico_schema.digests import sha256_file
from pico_train.checkpoint import set_aside
from pico_train.checkpoint.set_aside import PublishedStep
from pico_train.publish import queue


@contextmanager
def nobody_publishing(run_dir: Path) -> Iterator[None]:
    """Hold the publisher's lock, where the run was ever published: no step is sent while it is set aside.

    Raises:
        PublishError: another process publishes this run.
    """
    if not (run_dir / queue.FOLDER).is_dir():
        yield
        return
    with queue.PublishLock(run_dir):
        yield


def published_steps(run_dir: Path, steps: Iterable[int]) -> list[PublishedStep]:
    """Which of these steps are on the Hub, by the publisher's records."""
    name, chosen = documents.read_run(run_dir).name, list(steps)
    found = []
    for folder in sorted((run_dir / queue.FOLDER).glob("*__*")):
        repo = folder.name.replace("__", "/", 1)
        for record in queue.Queue(run_dir, repo).records(chosen):
            if record.state == "done":
                tag = layout.tag_name(name, record.step)
                found.append(PublishedStep(step=record.step, repo=repo, tag=tag, commit=record.commit))
    return found


@dataclass(frozen=True)
class Trajectory:
    """What a run holds as its history, and what it has set aside."""

    sealed: Mapping[int, str]
    """Step → digest of the manifest that the run has of it now."""
    reasons: Mapping[tuple[int, str], str]
    """Step and digest → why it is no part of the history; checkpoints that were taken back are among them."""
    damaged: Mapping[tuple[int, str], str]
    """The same of those that were set aside for their damage alone: what was published of one is the run's still,
    unless it has sealed another."""

    @classmethod
    def read(cls, run_dir: Path) -> Trajectory:
        """That of a run on this disk.

        Raises:
            CheckpointError: a note is damaged.
            SchemaError: the run's manifest is.
        """
        sealed = {entry.step: entry.manifest_sha256 for entry in documents.read_run(run_dir).checkpoints}
        for step in queue.sealed(run_dir):
            sealed[step] = sha256_file(run_dir / layout.checkpoint_dir(step) / layout.MANIFEST)
        reasons: dict[tuple[int, str], str] = {}
        damaged: dict[tuple[int, str], str] = {}
        for item in set_aside.listed(run_dir):
            known = damaged if item.note.damaged else reasons
            for entry in (*item.note.steps, *item.note.lost):
                known[(entry.step, entry.manifest_sha256)] = item.note.reason or "the run has set it aside"
        return cls(sealed, reasons, damaged)

    def told_by(self, index: RevisionIndex, tags: Mapping[str, str]) -> RevisionIndex:
        """The index as it has to be: the very same object where nothing is to change.

        Args:
            index: That of the run's branch, each revision with its commit.
            tags: All tags of the repository. What was set aside comes back when its tag names no other checkpoint.
        """
        leaving = {}
        for item in index.revisions:
            why = self._leaves(item.step, item.manifest_sha256)
            if why is not None and item.commit is not None:
                leaving[item.step] = why
        returning = {
            item.step: item.manifest_sha256
            for item in index.set_aside
            if self.sealed.get(item.step) == item.manifest_sha256
            and tags.get(layout.tag_name(index.run_name, item.step), item.commit) == item.commit
        }
        if not (leaving or returning):
            return index
        told = index.with_set_aside(leaving).with_taken_back(returning)
        return index if told == index else told

    def _leaves(self, step: int, digest: str) -> str | None:
        """Why a published checkpoint is no part of the history; None where it is."""
        key, now = (step, digest), self.sealed.get(step)
        if now == digest:
            return None
        return self.reasons.get(key) or (self.damaged.get(key) if now is not None else None)


@dataclass(frozen=True)
class Marks:
    """What changes between two states of an index."""

    leaving: tuple[SetAsideRevision, ...]
    returning: tuple[int, ...]
    evaluated: tuple[int, ...] = ()
    """Steps of which there are new results."""

    @classmethod
    def between(cls, before: RevisionIndex, after: RevisionIndex, *, evaluated: Sequence[int] = ()) -> Marks:
        """What `after` says otherwise."""
        known = {(item.step, item.manifest_sha256) for item in before.set_aside}
        leaving = tuple(item for item in after.set_aside if (item.step, item.manifest_sha256) not in known)
        stay = {(item.step, item.manifest_sha256) for item in after.set_aside}
        returning = tuple(item.step for item in before.set_aside if (item.step, item.manifest_sha256) not in stay)
        return cls(leaving, returning, tuple(evaluated))

    @property
    def title(self) -> str:
        """One line for a commit: which steps stand apart, which are back."""
        parts = []
        if self.leaving:
            parts.append(f"set aside: {_steps(item.step for item in self.leaving)}")
        if self.returning:
            parts.append(f"taken back: {_steps(self.returning)}")
        if self.evaluated:
            parts.append(f"evaluated: {_steps(self.evaluated)}")
        return "; ".join(parts)

    @property
    def text(self) -> str:
        """The reasons, a line each."""
        return "\n".join(dict.fromkeys(item.reason for item in self.leaving))


def _steps(steps: Iterable[int]) -> str:
    ordered = sorted(steps)
    more = f", … ({len(ordered)} in all)" if len(ordered) > 12 else ""
    return f"step{'' if len(ordered) == 1 else 's'} {', '.join(map(str, ordered[:12]))}{more}"


def with_those_of(index: RevisionIndex, branch: RevisionIndex) -> RevisionIndex:
    """The index of main as the run's branch has it to be: what stands apart there stands apart here."""
    apart = {(item.step, item.manifest_sha256): item.reason for item in branch.set_aside}
    own = {item.step: item.manifest_sha256 for item in branch.revisions}
    leaving = {
        item.step: apart[item.step, item.manifest_sha256]
        for item in index.revisions
        if item.commit is not None and (item.step, item.manifest_sha256) in apart
    }
    return index.with_set_aside(leaving).with_taken_back(own)


def taken_tag(repo: str, run_dir: Path, tag: str, holder: SetAsideRevision) -> str:
    """What to say where the tag of a step names a checkpoint that the run has set aside."""
    return (
        f"tag {tag} of {repo} names the step {holder.step} that was published before the run set it aside "
        f"({holder.reason}), and nothing that is published is rewritten: delete the tag ("
        f"`hf repos tag delete {repo} {tag} --yes`, or in Python `huggingface_hub.delete_tag({repo!r}, tag={tag!r})`), "
        f"then `pico-train publish {run_dir}` publishes the new one"
    )
