"""Whether publishing will be possible, asked before training starts."""

from __future__ import annotations

from collections.abc import Callable

from pico_schema import layout
from pico_train.config import PublishConfig
from pico_train.publish import commits
from pico_train.publish.remote import DeniedError, Remote


def check_access(
    remote: Remote, settings: PublishConfig, run_name: str, run_id: str | None, say: Callable[..., None]
) -> None:
    """See to it that publishing will be possible; creates the repository where it is missing.

    Args:
        remote: The repository.
        settings: The run's `publish` section.
        run_name: The run, begun or not.
        run_id: Its id, if it has begun.
        say: Called with an event before a long wait.

    Raises:
        PublishError: it will not be, or nobody answers.
    """
    say("attempt", step=None, allowed=10 * settings.timeout)
    branch = layout.branch_name(run_name)
    if branch == commits.MAIN:
        raise DeniedError(commits.NO_RUN_OF_THAT_NAME)
    remote.check_token()
    remote.create_repository(private=settings.private, collection=settings.collection)
    refs = remote.refs()
    remote.probe_write(branch if branch in refs.branches else commits.MAIN)
    if branch in refs.branches:
        head = commits.read_head(remote, refs.branches[branch])
        commits.check_owner(remote, head, run_id or "", run_name)
