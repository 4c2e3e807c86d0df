"""Each endpoint of the Hub × each kind of fault, while a run trains: one commit per step, the bytes that were sealed.

One publisher per endpoint lives through all faults, a step for each. Time limits are small, so that hangs are short.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from pico_conformance import Fault, Hub
from pico_conformance.runs import add_checkpoint, write_run
from pico_schema import layout
from pico_train.config import PublishConfig
from pico_train.publish import Publisher, start_publisher

REPO = "tester/model"
QUICK = PublishConfig(
    repo=REPO, timeout=1.0, retry_wait=0.05, retry_wait_max=0.2, slowest_upload=0.05, commits_per_hour=100_000
)
HANG = 60.0

READS = {
    "refs": "GET /api/models/.*/refs",
    "tree": "GET /api/models/.*/tree/",
    "read": "GET /tester/model/resolve/",
}
WRITES = {
    "card": "POST /api/validate-yaml",
    "preupload": "POST /api/models/.*/preupload/",
    "commit": "POST /api/models/.*/commit/demo",
    "tag": "POST /api/models/.*/tag/",
}
LFS = {
    "batch": "POST /tester/model.git/info/lfs/objects/batch",
    "put": "PUT /_lfs/put/",
    "part": "PUT /_lfs/part/",
    "complete": "POST /_lfs/complete/",
    "verify": "POST /_lfs/verify/",
}
XET = {
    "token": "GET /api/models/.*/xet-write-token/",
    "xorb": "POST /v1/xorbs/",
    "shard": "POST /v./shards",
    "commit": "POST /api/models/.*/commit/demo",
}
BEGINNING = {
    "whoami": "GET /api/whoami-v2",
    "create": "POST /api/repos/create",
    "history": "GET /api/models/.*/commits/",
    "branch": "POST /api/models/.*/branch/",
}


def faults(pattern: str) -> list[Fault]:
    """Every kind, once."""
    found = [
        Fault(pattern, status=429, headers={"Retry-After": "1"}),
        Fault(pattern, status=408),
        Fault(pattern, status=500),
        Fault(pattern, status=503),
        Fault(pattern, "hang", delay=HANG),
        Fault(pattern, "drop"),
        Fault(pattern, "lost"),
        Fault(pattern, "truncate"),
        Fault(pattern, "flip"),
        Fault(pattern, "flip", at=0.4),
    ]
    if not pattern.startswith("GET"):
        found += [Fault(pattern, "flip-upload", at=0.5)]
    return found


def wait_for(publisher: Publisher, count: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while publisher.status().published < count:
        assert time.monotonic() < deadline, publisher.status()
        time.sleep(0.02)


def check(hub: Hub, run: Path, steps: list[int]) -> None:
    """One commit for each step, in a line; tags on them; the sealed bytes in each."""
    repository = hub.repository("models", REPO)
    log = repository.log(repository.resolve("demo"))[::-1]
    assert [row["title"] for row in log[1:]] == [f"demo step {step}" for step in steps]
    tags = {tag["name"]: tag["targetCommit"] for tag in repository.refs("refs/tags/")}
    assert tags.items() >= {f"demo-step-{step}": row["id"] for step, row in zip(steps, log[1:], strict=True)}.items()
    for step in steps:
        directory = run / layout.checkpoint_dir(step)
        rows = {row["path"]: row for row in repository.tree(tags[f"demo-step-{step}"])}
        for path in directory.rglob("*"):
            if path.is_file():
                row = rows[path.relative_to(directory).as_posix()]
                stored = hub.objects.path("lfs", row["lfs"]["oid"]).read_bytes() if "lfs" in row else None
                assert (stored if stored is not None else repository.blob(row["oid"])) == path.read_bytes()


@pytest.mark.parametrize(
    ("hub_mode", "endpoint"),
    [("lfs", name) for name in [*READS, *WRITES, *LFS]] + [("xet", name) for name in XET],
)
def test_one_commit_per_step_whatever_goes_wrong(hub: Hub, hub_mode: str, endpoint: str, tmp_path: Path) -> None:
    patterns = READS | WRITES | (LFS if hub_mode == "lfs" else XET)
    if endpoint in ("part", "complete"):
        hub.part_size = 8192
    run = write_run(tmp_path, steps=(0,), max_steps=10**6)
    publisher = start_publisher(run, QUICK)
    wait_for(publisher, 1, 30)
    steps = [0]
    try:
        for step, fault in enumerate(faults(patterns[endpoint]), start=1):
            hub.faults.add(fault)
            add_checkpoint(run, step)
            before = time.perf_counter()
            publisher.enqueue(step)
            assert time.perf_counter() - before < 5, "training does not wait"
            steps.append(step)
            wait_for(publisher, len(steps), 60)
            assert not hub.faults.pending, f"{fault.kind} never happened"
            hub.faults.clear()
    finally:
        publisher.close(5)
    check(hub, run, steps)


@pytest.mark.parametrize("hub_mode", ["lfs"])
@pytest.mark.parametrize("endpoint", list(BEGINNING))
def test_a_run_begins_whatever_goes_wrong(hub: Hub, endpoint: str, tmp_path: Path) -> None:
    """What is called once per run meets all faults, one after the other."""
    run = write_run(tmp_path, steps=(0, 1), max_steps=10**6)
    wanted = [f for f in faults(BEGINNING[endpoint]) if not (endpoint != "whoami" and f.kind == "lost")]
    if endpoint in ("create", "branch"):  # once it took effect, the next attempt does not ask again
        wanted.append(Fault(BEGINNING[endpoint], "lost"))
    hub.faults.add(*wanted)
    publisher = start_publisher(run, QUICK)
    wait_for(publisher, 2, 90)
    publisher.close(5)
    check(hub, run, [0, 1])


@pytest.mark.parametrize("hub_mode", ["lfs"])
def test_a_listing_that_lies_about_a_file_is_not_believed(hub: Hub, tmp_path: Path) -> None:
    """A flipped bit in the digest of a listing, not in its syntax: publishing must neither skip nor repeat."""
    run = write_run(tmp_path, steps=(0,), max_steps=10**6)
    publisher = start_publisher(run, QUICK)
    wait_for(publisher, 1, 30)
    api = HfApi(endpoint=hub.url, token=hub.token)
    for step in range(1, 6):
        hub.faults.add(Fault(READS["tree"], "flip", at=step / 7), Fault(READS["refs"], "flip", at=step / 7))
        add_checkpoint(run, step)
        publisher.enqueue(step)
        wait_for(publisher, step + 1, 60)
        hub.faults.clear()
    publisher.close(5)
    check(hub, run, list(range(6)))
    assert len(api.list_repo_refs(REPO).branches) == 2
