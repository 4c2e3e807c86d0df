"""What publishing a run would commit, without committing it: checkpoints, and what is set aside."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

from pico_schema import RevisionIndex, documents, layout, read_run
from pico_schema.revisions import BranchesAndTags
from pico_train.config import PublishConfig
from pico_train.errors import PublishError
from pico_train.publish import commits, revision
from pico_train.publish.card import run_card
from pico_train.publish.queue import Queue
from pico_train.publish.remote import Remote, RemoteFile
from pico_train.publish.set_aside import Marks, Trajectory, taken_tag


def plan(
    remote: Remote, run_dir: Path, settings: PublishConfig, chosen: Collection[int] | None, say: Callable[..., None]
) -> None:
    """Say what would be committed: an event `to_mark` where the branch has to say that published steps are set aside or
    taken back, `planned` for each step that the Hub has no tag of, `refused` for one of which it holds another
    checkpoint.

    Args:
        remote: The repository, which may not exist yet.
        run_dir: The run.
        settings: Its `publish` section.
        chosen: Steps; None for all that are sealed.
        say: Called with each event.

    Raises:
        CheckpointError: a checkpoint on disk is not fit to be published.
        PublishError: the branch is another run's.
    """
    run = read_run(run_dir)
    say("attempt", step=None, allowed=10 * settings.timeout)
    head = commits.Head("", {}, None, None)
    refs = BranchesAndTags({}, {})
    with contextlib.suppress(PublishError):  # no repository yet, or nobody answers: then all is to be sent
        refs = remote.refs()
    branch = layout.branch_name(run.name)
    if branch in refs.branches:
        head = commits.read_head(remote, refs.branches[branch], refs.tags)
    commits.check_owner(remote, head, run.id, run.name)
    head = _marked(remote, run_dir, settings, head, refs.tags, say)
    for record in Queue(run_dir, remote.repo).records(chosen):
        tag = layout.tag_name(run.name, record.step)
        if tag in refs.tags:
            known = head.index.find(record.step) if head.index else None
            holder = commits.holder_of(head.index, record.step, refs.tags[tag])
            if holder is not None and holder.manifest_sha256 != record.manifest_sha256:
                say("refused", step=record.step, error=taken_tag(remote.repo, run_dir, tag, holder))
                continue
            if known is not None and known.manifest_sha256 != record.manifest_sha256:
                say(
                    "refused",
                    step=record.step,
                    error=commits.another_checkpoint(remote, run.name, record.step, run_dir),
                )
            continue
        size = documents.read_checkpoint(run_dir / layout.checkpoint_dir(record.step)).size
        say("attempt", step=record.step, allowed=10 * settings.timeout + size / (settings.slowest_upload * 1e6))
        bundle = revision.package(run_dir, record.step)
        index = revision.index_with(head.index, bundle)
        readme = run_card(bundle.run, index, remote.place, license=settings.license)
        files = revision.revision_files(bundle, index, run_dir, readme=readme)
        planned = commits.change(head, files)
        say(
            "planned",
            step=record.step,
            branch=branch,
            tag=tag,
            files=len(planned.add),
            deletes=len(planned.delete),
            size=planned.size,
        )
        head = _as_if_committed(files, index, bundle)


def _marked(
    remote: Remote,
    run_dir: Path,
    settings: PublishConfig,
    head: commits.Head,
    tags: Mapping[str, str],
    say: Callable[..., None],
) -> commits.Head:
    """The head as it would be once it says what the run has set aside; where that takes a commit, it is said."""
    if head.index is None:
        return head
    index = Trajectory.read(run_dir).told_by(head.index, tags)
    if index is head.index:
        return head
    tree, run = dict(head.tree), read_run(run_dir)
    if index.revisions:
        add = commits.change(head, commits.index_files(remote, run, index, settings)).add
        tree |= {path: RemoteFile(file.size, "", file.sha256) for path, file in add.items()}
        marks = Marks.between(head.index, index)
        say("to_mark", branch=run.name, title=marks.title, reasons=marks.text, size=sum(f.size for f in add.values()))
    return replace(head, tree=tree, index=index)


def _as_if_committed(
    files: Mapping[str, revision.LocalFile], index: RevisionIndex, bundle: revision.Package
) -> commits.Head:
    tree = {path: RemoteFile(file.size, "", file.sha256) for path, file in files.items()}
    return commits.Head("", tree, index, bundle.manifest)
