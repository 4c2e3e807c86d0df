"""Telling a branch which of its published steps the run has set aside since, and which of them it has taken back.

One commit to the branch, of `revisions.json` and the card; checkpoints and tags stay as they are. It follows from the
run on disk and from what the branch holds, so an attempt that was interrupted, at any moment, is simply made again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pico_schema import RevisionIndex, layout, read_run
from pico_schema.revisions import BranchesAndTags
from pico_train.config import PublishConfig
from pico_train.publish.commits import MAIN, Change, Head, check_owner, commit_index, read_head
from pico_train.publish.remote import Remote
from pico_train.publish.set_aside import Marks, Trajectory


@dataclass(frozen=True)
class Marking:
    """What a branch's index has to say otherwise."""

    head: Head
    index: RevisionIndex
    marks: Marks


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
    if index is head.index or not index.revisions:
        return None
    return Marking(head, index, Marks.between(head.index, index))


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
    commit = commit_index(remote, read_run(run_dir), found.head, found.index, settings, before_commit=before_commit)
    return commit, found.marks
