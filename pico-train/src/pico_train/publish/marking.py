"""Telling a branch which of its published steps the run has set aside since, which of them it has taken back, and what
evaluation has found of them.

One commit to the branch, of `revisions.json`, the card and `evaluations/`; checkpoints and tags stay as they are. It
follows from the run on disk and from what the branch holds, so an attempt that was interrupted, at any moment, is
simply made again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pico_schema import Evaluation, RevisionIndex, layout, read_run
from pico_schema.results import flat_results
from pico_schema.revisions import BranchesAndTags
from pico_train.config import PublishConfig
from pico_train.publish.commits import MAIN, Change, Head, check_owner, commit_index, read_head
from pico_train.publish.remote import Remote
from pico_train.publish.revision import evaluations_of, with_results
from pico_train.publish.set_aside import Marks, Trajectory


@dataclass(frozen=True)
class Marking:
    """What a branch's index has to say otherwise."""

    head: Head
    index: RevisionIndex
    marks: Marks
    evaluations: Mapping[int, Evaluation]
    """Results that the branch does not have yet, by step."""


def marking(remote: Remote, run_dir: Path, refs: BranchesAndTags) -> Marking | None:
    """What has to change on the run's branch; None where it tells the truth, or where nothing of the run's trajectory
    would be left on it: then the next checkpoint that is published brings the index along.

    Raises:
        CheckpointError: a note of what was set aside is damaged.
        TransientError, DeniedError: as `commits.read_head`.
    """
    run = read_run(run_dir)
    branch = layout.branch_name(run.name)
    if branch == MAIN or branch not in refs.branches:
        return None
    head = read_head(remote, refs.branches[branch], refs.tags)
    check_owner(remote, head, run.id, run.name)
    if head.index is None:
        return None
    index = Trajectory.read(run_dir).told_by(head.index, refs.tags)
    new = _new_results(run_dir, index)
    if new:
        index = with_results(index, new)
    if (index is head.index and not new) or not index.revisions:
        return None
    return Marking(head, index, Marks.between(head.index, index, evaluated=sorted(new)), new)


def _new_results(run_dir: Path, index: RevisionIndex) -> dict[int, Evaluation]:
    """Evaluations of published checkpoints whose results the index does not tell."""
    published = {item.step: item for item in index.revisions}
    return {
        step: found
        for step, found in evaluations_of(run_dir, read_run(run_dir)).items()
        if step in published
        and found.manifest_sha256 == published[step].manifest_sha256
        and flat_results(found.tasks) != published[step].results
    }


def mark(
    remote: Remote, run_dir: Path, settings: PublishConfig, *, before_commit: Callable[[Change], None]
) -> tuple[str, Marks] | None:
    """One attempt to make the run's branch say what the run has set aside.

    Args:
        remote: The repository.
        run_dir: The run.
        settings: Licence and the like.
        before_commit: Told what will travel, just before it does; may wait.

    Returns:
        The commit and what it says; None where the branch says so already.

    Raises:
        CheckpointError, TransientError, DeniedError: as `commits.publish_step`.
    """
    found = marking(remote, run_dir, remote.refs())
    if found is None:
        return None
    commit = commit_index(
        remote,
        read_run(run_dir),
        found.head,
        found.index,
        settings,
        evaluations=found.evaluations,
        evaluated=found.marks.evaluated,
        before_commit=before_commit,
    )
    return commit, found.marks
