"""Main: the branch that people see first. It holds the last checkpoint of a finished run, and the repository's card.

The card is made anew from what every branch holds, so that of several publishers none undoes what another said: main's
head and the heads of the branches come from one answer, and the commit names main's head as its parent. Whoever commits
last has therefore read what every publisher before had put on its branch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pico_schema import RevisionIndex, RunManifest, SchemaError, documents, layout
from pico_schema.revisions import BranchesAndTags
from pico_train.config import PublishConfig
from pico_train.publish import revision
from pico_train.publish.card import PublishedRun, is_ours, repository_card
from pico_train.publish.commits import MAIN, Change, Head, change, check_owner, operations_of, read_head, verify
from pico_train.publish.remote import DeniedError, Remote, TransientError
from pico_train.publish.revision import LocalFile
from pico_train.publish.set_aside import with_those_of


@dataclass(frozen=True)
class PublishedRuns:
    """What a repository's branches hold."""

    runs: tuple[PublishedRun, ...]
    unread: tuple[str, ...]
    """Branches that list revisions, but not those of a run that can be read."""


def published_runs(remote: Remote, refs: BranchesAndTags) -> PublishedRuns:
    """The runs of a repository, each from the head of its branch; branches of other content are left out.

    Raises:
        TransientError: an answer was damaged on its way.
    """
    runs, unread = [], []
    for branch, commit in sorted(refs.branches.items()):
        if branch == MAIN:
            continue
        tree = remote.tree(commit)
        if layout.REVISIONS not in tree:
            continue
        where = f"{remote.repo}@{branch}"
        try:
            listed = remote.read(commit, layout.REVISIONS, tree[layout.REVISIONS])
            index = documents.parse(listed, RevisionIndex, where=where)
            raw = remote.read(commit, layout.RUN_MANIFEST, tree[layout.RUN_MANIFEST])
            run = documents.parse(raw, RunManifest, where=where)
        except (SchemaError, DeniedError, KeyError):
            unread.append(branch)
            continue
        if index.revisions and index.run_id == run.id and index.run_name == run.name == branch:
            runs.append(PublishedRun(run, index))
        else:
            unread.append(branch)
    return PublishedRuns(tuple(runs), tuple(unread))


def move_main(
    remote: Remote, run_dir: Path, step: int, settings: PublishConfig, *, before_commit: Callable[[Change], None]
) -> str:
    """One attempt to make main hold the run's last checkpoint; large files are referred to, not sent.

    Returns:
        The commit of main that holds it.

    Raises:
        CheckpointError, MismatchError, TransientError, DeniedError: as `commits.publish_step`.
    """
    bundle = revision.package(run_dir, step)
    name, refs = bundle.run.name, remote.refs()
    source = refs.branches.get(layout.branch_name(name))
    branch = read_head(remote, source, refs.tags) if source is not None else None
    if branch is not None:
        check_owner(remote, branch, bundle.run.id, name)
    published = branch.index.find(step) if branch is not None and branch.index is not None else None
    if branch is None or branch.index is None or published is None:
        raise TransientError(f"step {step} of {name} is not on its branch yet")
    head = read_head(remote, refs.branches[MAIN])
    index = revision.with_results(branch.index, bundle.evaluations)
    readme = _card(remote, published_runs(remote, refs), settings, shown=name, own=PublishedRun(bundle.run, index))
    files = revision.revision_files(bundle, index, run_dir, readme=readme, final=True)
    if _is_a_persons_own(remote, head):
        del files[layout.CARD]
    planned, commit = change(head, files), head.commit
    if head.index is not None and head.index.run_id != bundle.run.id:  # another run's documents go with its checkpoint
        planned = Change(planned.add, tuple(sorted({*planned.delete, *(_of_run(head) - set(files))})))
    if planned.add or planned.delete:
        referred = _references(remote, published.commit or branch.commit, planned.add)
        sent = Change({path: f for path, f in planned.add.items() if path not in referred}, planned.delete)
        operations = [*operations_of(remote, sent), *referred.values()]
        before_commit(sent)
        commit = remote.commit(MAIN, head.commit, operations, f"main: {name} step {step}", f"Run {bundle.run.id}.")
    verify(remote, commit, bundle)
    return commit


def describe_repository(
    remote: Remote, settings: PublishConfig, *, before_commit: Callable[[Change], None]
) -> str | None:
    """One attempt to make main's card say what all branches hold, and its index set aside what the branch of its run
    does; nothing else of main changes.

    Returns:
        The commit, or None where the card says so already, or is a person's own.

    Raises:
        TransientError, DeniedError: as `commits.publish_step`.
    """
    refs = remote.refs()
    head = read_head(remote, refs.branches[MAIN])
    shown = head.index.run_name if head.index is not None else None
    found = published_runs(remote, refs)
    files = {layout.CARD: revision.in_memory(_card(remote, found, settings, shown=shown).encode())}
    if files[layout.CARD].same_as(head.tree.get(layout.CARD)) or _is_a_persons_own(remote, head):
        files = {}
    own = next((item.index for item in found.runs if head.index and item.index.run_id == head.index.run_id), None)
    if head.index is not None and own is not None and (told := with_those_of(head.index, own)) != head.index:
        files[layout.REVISIONS] = revision.in_memory(documents.dump(told))
    if not files:
        return None
    planned = Change(files, ())
    before_commit(planned)
    return remote.commit(MAIN, head.commit, operations_of(remote, planned), "main: the card of all runs", "")


def _card(
    remote: Remote,
    found: PublishedRuns,
    settings: PublishConfig,
    *,
    shown: str | None,
    own: PublishedRun | None = None,
) -> str:
    """The card of all runs; what is known of one's `own` run may be newer than its branch."""
    runs = [own if own is not None and item.run.id == own.run.id else item for item in found.runs]
    if not runs:
        raise TransientError(f"no branch of {remote.repo} holds a run yet")
    return repository_card(runs, remote.place, license=settings.license, shown=shown, unread=found.unread)


def _of_run(head: Head) -> set[str]:
    """Paths of a branch's head that describe its run, besides the checkpoint."""
    documents_of_run = {layout.RUN_CONFIG, layout.METRICS_LOG, layout.VALIDATION_ROWS}
    return {path for path in head.tree if path in documents_of_run or path.startswith(layout.EVALUATIONS + "/")}


def _is_a_persons_own(remote: Remote, head: Head) -> bool:
    """Whether main has a card that this program did not write: it is left alone."""
    listed = head.tree.get(layout.CARD)
    return listed is not None and not is_ours(remote.read(head.commit, layout.CARD, listed).decode(errors="replace"))


def _references(remote: Remote, commit: str, wanted: Mapping[str, LocalFile]) -> dict[str, Any]:
    """Operations that refer to the large files of a commit, by path."""
    from huggingface_hub import CommitOperationCopy

    tree = remote.tree(commit)
    return {
        path: CommitOperationCopy(path, path, src_revision=commit)
        for path, file in wanted.items()
        if (row := tree.get(path)) is not None and row.sha256 is not None and file.same_as(row)
    }
