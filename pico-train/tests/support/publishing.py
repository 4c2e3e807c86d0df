"""Settings with small time limits and waits, so that tests are short; and runs that are not as they were trained."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pico_conformance import Hub
from pico_schema import CheckpointManifest, Evaluation, documents, layout
from pico_schema.digests import sha256_file
from pico_train.checkpoint.storage import Disk
from pico_train.config import PublishConfig
from pico_train.publish.worker import Worker

REPO = "tester/model"
QUICK = PublishConfig(
    repo=REPO, timeout=2.0, retry_wait=0.05, retry_wait_max=0.2, slowest_upload=1.0, commits_per_hour=100_000
)


def reseal(run: Path, step: int, manifest: CheckpointManifest) -> None:
    """Give a checkpoint another manifest, as if it had been sealed with that."""
    path = run / layout.checkpoint_dir(step) / layout.MANIFEST
    documents.write(path, manifest)
    document = documents.read_run(run)
    [entry] = [entry for entry in document.checkpoints if entry.step == step]
    changed = entry.model_copy(update={"manifest_sha256": sha256_file(path)})
    documents.write(run / layout.RUN_MANIFEST, document.with_checkpoint(changed))


def evaluation_of(run: Path, step: int) -> Evaluation:
    """An evaluation of a checkpoint."""
    document = documents.read_run(run)
    [entry] = [entry for entry in document.checkpoints if entry.step == step]
    return Evaluation(
        run_id=document.id,
        step=step,
        manifest_sha256=entry.manifest_sha256,
        created=document.created,
        producer=document.producer,
        tasks={"t": {"loss": 1.5}},
    )


def content(hub: Hub, revision: str, repo: str = REPO) -> dict[str, bytes]:
    """Every file of a revision, as a reader gets it."""
    repository, found = hub.repository("models", repo), {}
    for row in repository.tree(repository.resolve(revision)):
        if row["type"] == "file" and row["path"] != ".gitattributes":
            raw = hub.objects.path("lfs", row["lfs"]["oid"]).read_bytes() if "lfs" in row else None
            found[row["path"]] = raw if raw is not None else repository.blob(row["oid"])
    return found


class Finish:
    """The orders of a parent that wants everything published and nothing more."""

    def __init__(self) -> None:
        self.finish = threading.Event()
        self.finish.set()

    def wait(self, seconds: float) -> None:
        """Never called: there is nothing to wait for."""
        raise AssertionError(f"asked to wait {seconds} s")


def publish_here(
    run: Path,
    settings: PublishConfig = QUICK,
    *,
    steps: Sequence[int] | None = None,
    max_attempts: int | None = 8,
    disk: Disk | None = None,
) -> list[dict[str, Any]]:
    """Publish a run in this process, as the worker does in one of its own; returns its events.

    Raises:
        PublishError: as the worker.
    """
    job = {
        "run_dir": str(run),
        "settings": settings.model_dump(mode="json"),
        "steps": steps,
        "max_attempts": max_attempts,
    }
    events = io.StringIO()
    Worker(job, Finish(), events, disk=disk).publish()  # type: ignore[arg-type]
    return [json.loads(line) for line in events.getvalue().splitlines()]
