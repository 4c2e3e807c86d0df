"""Publishing one checkpoint: what is done, in which order, and what a half-done attempt looks like.

`publish_step` is one attempt. It begins by reading what the Hub holds, so it can follow any failure: if the branch
lists this checkpoint's manifest already, the commit is done and only tag and verification are left. A commit names its
parent, so of two publishers one gets through and the other reads again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pico_schema import (
    CheckpointManifest,
    Evaluation,
    RevisionIndex,
    RunManifest,
    SchemaError,
    SetAsideRevision,
    documents,
    layout,
)
from pico_train.config import PublishConfig
from pico_train.errors import CheckpointError
from pico_train.publish import revision
from pico_train.publish.card import run_card
from pico_train.publish.remote import DeniedError, MismatchError, Remote, RemoteFile, TransientError
from pico_train.publish.revision import LocalFile, Package
from pico_train.publish.set_aside import Marks, Trajectory, taken_tag

MAIN = "main"
"""The branch that people see first; see `main_branch`."""
NO_RUN_OF_THAT_NAME = (
    "a run of the name 'main' cannot be published: that branch shows the whole repository; give the run another name"
)
VERIFY_ATTEMPTS = 3


@dataclass(frozen=True)
class Head:
    """What a branch holds."""

    commit: str
    tree: Mapping[str, RemoteFile]
    index: RevisionIndex | None
    """None for a branch that holds no checkpoint yet."""
    manifest: CheckpointManifest | None

    @property
    def owned(self) -> set[str]:
        """Paths of the head that belong to its checkpoint, and so go when the next one lacks them."""
        if self.manifest is None:
            return set()
        return {path for path in (*self.manifest.files, layout.MANIFEST) if path in self.tree}

    @property
    def evaluations_aside(self) -> set[str]:
        """Evaluations of steps that are published and all set aside by the run: they go with its next checkpoint."""
        if self.index is None:
            return set()
        apart = {item.step for item in self.index.set_aside} - {item.step for item in self.index.revisions}
        return {path for step in apart if (path := layout.evaluation_file(step)) in self.tree}


@dataclass(frozen=True)
class Change:
    """What a commit will do."""

    add: Mapping[str, LocalFile]
    delete: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of the files that travel (before the storage removes what it knows)."""
        return sum(file.size for file in self.add.values())


@dataclass(frozen=True)
class Published:
    """A checkpoint that is on the Hub."""

    commit: str
    manifest_sha256: str
    """Digest of the manifest that was published: on disk there may be another by now."""


def read_head(remote: Remote, commit: str, tags: Mapping[str, str] | None = None) -> Head:
    """Tree, index and manifest at the head of a branch, checked against each other.

    Args:
        remote: The repository.
        commit: The head.
        tags: All tags. The head's index cannot name the commit of the checkpoint it came with; its tag does.

    Raises:
        TransientError: they do not fit together: an answer was damaged on its way.
        DeniedError: the branch holds something that this program did not put there.
    """
    tree = remote.tree(commit)
    if layout.MANIFEST not in tree and layout.REVISIONS not in tree:
        return Head(commit, tree, None, None)
    if layout.MANIFEST not in tree or layout.REVISIONS not in tree:
        raise DeniedError(
            f"{remote.repo} at {commit[:12]} has only one of {layout.MANIFEST} and {layout.REVISIONS}: "
            "it was not published by this program; publish to another repository or under another run name"
        )
    where = f"{remote.repo}@{commit[:12]}"
    raw = remote.read(commit, layout.MANIFEST, tree[layout.MANIFEST])
    listed = remote.read(commit, layout.REVISIONS, tree[layout.REVISIONS])
    try:
        index = documents.parse(listed, RevisionIndex, where=f"{where}:{layout.REVISIONS}")
        manifest = documents.parse(raw, CheckpointManifest, where=f"{where}:{layout.MANIFEST}")
    except SchemaError as error:
        raise DeniedError(str(error)) from None
    _check_listing(tree, manifest, where)
    here = index.find(manifest.step)
    if here is not None and here.manifest_sha256 == revision.in_memory(raw).sha256:
        tagged = (tags or {}).get(layout.tag_name(index.run_name, manifest.step), commit)
        if tagged != commit and remote.tree(tagged).get(layout.MANIFEST) != tree[layout.MANIFEST]:
            raise TransientError(f"{where}: the tag of step {manifest.step} names another checkpoint")
        index = index.with_commits({manifest.step: tagged})
    return Head(commit, tree, index, manifest)


def _check_listing(tree: Mapping[str, RemoteFile], manifest: CheckpointManifest, where: str) -> None:
    """A listing that was damaged on its way would hide files that have to go: it must agree with the manifest."""
    for path, entry in manifest.files.items():
        found = tree.get(path)
        if found is None and revision.is_state(path):
            continue
        if found is None or found.size != entry.size or (found.sha256 or entry.sha256) != entry.sha256:
            raise TransientError(f"{where}: the listing and the manifest disagree about {path}")


def change(head: Head, files: Mapping[str, LocalFile]) -> Change:
    """What has to travel and what has to go, so that the revision holds `files`."""
    add = {path: file for path, file in files.items() if not file.same_as(head.tree.get(path))}
    return Change(add, tuple(sorted((head.owned | head.evaluations_aside) - set(files))))


def operations_of(remote: Remote, planned: Change) -> list[Any]:
    """A change as the client takes it.

    Raises:
        CheckpointError: a text that would travel holds the token.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    leaking = revision.holding_secret(planned.add, remote.token)
    if leaking is not None:
        raise CheckpointError(f"{leaking} holds the token for {remote.repo}: it is not published; take the token out")
    adding = [
        CommitOperationAdd(path, str(file.path) if file.path else file.content)
        for path, file in sorted(planned.add.items())
    ]
    return adding + [CommitOperationDelete(path) for path in planned.delete]


def branch_head(remote: Remote, run_name: str) -> tuple[str, Mapping[str, str]]:
    """Commit of the run's branch, which is created where missing, and all tags."""
    branch = layout.branch_name(run_name)
    if branch == MAIN:
        raise DeniedError(NO_RUN_OF_THAT_NAME)
    refs = remote.refs()
    if branch not in refs.branches:
        remote.create_branch(branch, remote.first_commit())
        refs = remote.refs()
        if branch not in refs.branches:
            raise TransientError(f"branch {branch} of {remote.repo} is not there yet")
    return refs.branches[branch], refs.tags


def another_checkpoint(remote: Remote, run_name: str, step: int, run_dir: Path) -> str:
    """What to say where the branch lists another checkpoint of a step."""
    return f"branch {run_name} of {remote.repo} holds another checkpoint of step {step} than {run_dir}"


def check_owner(remote: Remote, head: Head, run_id: str, run_name: str) -> None:
    """Raise DeniedError if the branch belongs to another run."""
    if head.index is not None and head.index.run_id != run_id:
        raise DeniedError(
            f"branch {run_name} of {remote.repo} belongs to another run ({head.index.run_id}): choose another run name "
            "or another repository"
        )


def holder_of(index: RevisionIndex | None, step: int, commit: str) -> SetAsideRevision | None:
    """The checkpoint of a step that its tag names by this commit, if the run has set it aside."""
    apart = index.set_aside if index is not None else ()
    return next((item for item in apart if (item.step, item.commit) == (step, commit)), None)


def index_files(
    remote: Remote, run: RunManifest, index: RevisionIndex, settings: PublishConfig
) -> dict[str, LocalFile]:
    """The index and the card that tells of it: all that changes where a run has set published steps aside."""
    readme = run_card(run, index, remote.place, license=settings.license)
    return {
        layout.REVISIONS: revision.in_memory(documents.dump(index)),
        layout.CARD: revision.in_memory(readme.encode()),
    }


def commit_index(
    remote: Remote,
    run: RunManifest,
    head: Head,
    index: RevisionIndex,
    settings: PublishConfig,
    *,
    evaluations: Mapping[int, Evaluation] | None = None,
    evaluated: Sequence[int] = (),
    before_commit: Callable[[Change], None],
) -> str:
    """Give a run's branch another index, its card and new results, in one commit; the checkpoint of its head stays as
    it is."""
    assert head.index is not None
    add = index_files(remote, run, index, settings)
    for step, found in (evaluations or {}).items():
        add[layout.evaluation_file(step)] = revision.in_memory(documents.dump(found))
    planned = Change({path: file for path, file in add.items() if not file.same_as(head.tree.get(path))}, ())
    operations, marks = operations_of(remote, planned), Marks.between(head.index, index, evaluated=evaluated)
    before_commit(planned)
    title = f"{run.name}: {marks.title}"
    return remote.commit(
        layout.branch_name(run.name), head.commit, operations, title, f"{marks.text}\nRun {run.id}.".strip()
    )


def publish_step(
    remote: Remote, run_dir: Path, step: int, settings: PublishConfig, *, before_commit: Callable[[Change], None]
) -> Published:
    """One attempt to publish one checkpoint.

    Args:
        remote: The repository.
        run_dir: The run.
        step: A sealed checkpoint.
        settings: Licence and the like.
        before_commit: Told what will travel, just before it does; may wait.

    Returns:
        Its commit, once the Hub has confirmed the tag and every file.

    Raises:
        CheckpointError: the checkpoint on disk is not fit to be published.
        MismatchError: the Hub holds something else of this step.
        TransientError: try again.
        DeniedError: do not.
    """
    bundle = revision.package(run_dir, step)
    name = bundle.run.name
    tag = layout.tag_name(name, step)
    commit, tags = branch_head(remote, name)
    head = read_head(remote, commit, tags)
    check_owner(remote, head, bundle.run.id, name)
    before = head.index and Trajectory.read(run_dir).told_by(head.index, tags)
    if tag in tags:
        holder = holder_of(before, step, tags[tag])
        if holder is not None and holder.manifest_sha256 != bundle.manifest_sha256:
            raise MismatchError(taken_tag(remote.repo, run_dir, tag, holder))
        verify(remote, tags[tag], bundle)
        return Published(tags[tag], bundle.manifest_sha256)
    known = before.find(step) if before else None
    if known is not None and known.manifest_sha256 != bundle.manifest_sha256:
        raise MismatchError(another_checkpoint(remote, name, step, run_dir))
    if known is not None:
        assert before is not None
        if before is not head.index:  # it was published before, and is the run's again
            commit_index(remote, bundle.run, head, before, settings, before_commit=before_commit)
        commit = known.commit or commit
    else:
        index = revision.index_with(before, bundle)
        readme = run_card(bundle.run, index, remote.place, license=settings.license)
        files = revision.revision_files(bundle, index, run_dir, readme=readme)
        planned = change(head, files)
        operations = operations_of(remote, planned)
        before_commit(planned)
        seen = bundle.manifest.tokens_seen
        tokens = "" if seen is None else f"{seen:,} tokens seen. "
        title, text = f"{name} step {step}", f"{tokens}Run {bundle.run.id}."
        commit = remote.commit(layout.branch_name(name), head.commit, operations, title, text)
    remote.tag(tag, commit)
    if remote.refs().tags.get(tag) != commit:
        raise TransientError(f"tag {tag} of {remote.repo} does not name commit {commit[:12]} yet")
    verify(remote, commit, bundle)
    return Published(commit, bundle.manifest_sha256)


def verify(remote: Remote, commit: str, bundle: Package) -> None:
    """Compare sizes and digests at a commit with what was sealed.

    Raises:
        MismatchError: the listing differs, and again when asked anew.
    """
    for _ in range(VERIFY_ATTEMPTS):
        tree = remote.tree(commit)
        wrong = [path for path, file in bundle.files.items() if not file.same_as(tree.get(path))]
        wrong += sorted({path for path in tree if path.startswith(layout.CAPTURES + "/")} - set(bundle.files))
        if not wrong:
            return
    raise MismatchError(
        f"{remote.repo}@{commit[:12]}: {wrong[0]} is not what was sealed at step {bundle.manifest.step}: delete this "
        "revision's tag and branch on the Hub and publish again"
    )
