"""Steps that a run sets aside, as publishing sees them: which are on the Hub, and that none is sent meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pico_schema import documents, layout
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
