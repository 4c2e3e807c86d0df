"""What is recorded as published is so, whenever the power fails: no record ahead of the Hub, no commit of the disk.

The disk is the model of the checkpoint tests (`support.disks`): it forgets what was never synced. At every call of a
publisher to it, what a power cut could leave is compared with what the Hub holds at that moment.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support.disks import CountingDisk, ForgetfulDisk, RefusingDisk
from support.publishing import QUICK, REPO, content, publish_here
from support.small_run import begin, contents

from pico_conformance import Hub
from pico_conformance.runs import write_run
from pico_schema import documents, layout
from pico_train.checkpoint.writer import CheckpointWriter
from pico_train.publish import commits, main_branch
from pico_train.publish.command import publish_run
from pico_train.publish.queue import Halt, Queue, StepRecord, halt, halted

RECORDS = f"publish/{REPO.replace('/', '__')}"


class PowerCuts:
    """At each call of the disk, whether what may be left agrees with the Hub.

    Args:
        hub: What was published is read from here, not from what the publisher says.
        place: For what power cuts leave.
    """

    def __init__(self, hub: Hub, place: Path) -> None:
        self.hub, self.place = hub, place
        self.ahead: list[str] = []
        self.cuts = self.done_seen = self.asked_at = self.made = 0
        self.known: dict[str, str] = {}
        self.manifests: dict[tuple[str, str], str] = {}

    def __call__(self, disk: ForgetfulDisk) -> None:
        tags, made = self.of_the_hub()
        for how in ("least", "names", "some"):
            self.cuts += 1
            left = disk.after_power_cut(self.place / str(self.cuts), how, seed=self.cuts)
            self.ahead += [
                f"call {len(disk.calls)} ({disk.calls[-1]}), {how}: {text}" for text in self.lies(left, tags, made)
            ]

    def of_the_hub(self) -> tuple[dict[str, str], int]:
        """Commit by tag; and how many commits there are besides the first. Asked again when something was written."""
        written = self.hub.log.count("POST .*/(commit|tag|branch)/")
        if written != self.asked_at:
            repository = self.hub.repository("models", REPO)
            self.known = {row["name"]: row["targetCommit"] for row in repository.refs("refs/tags/")}
            self.made = int(repository.git("rev-list", "--all", "--count")) - 1
            self.asked_at = written
        return self.known, self.made

    def manifest_of(self, tag: str) -> str:
        """Digest of the manifest that a tag holds."""
        key = (tag, self.known[tag])
        if key not in self.manifests:
            self.manifests[key] = hashlib.sha256(content(self.hub, tag)[layout.MANIFEST]).hexdigest()
        return self.manifests[key]

    def lies(self, left: Path, tags: dict[str, str], made: int) -> list[str]:
        found = []
        for path in sorted((left / RECORDS).glob("step-*.json")):
            record = StepRecord.model_validate_json(path.read_bytes())  # never torn
            if record.state != "done":
                continue
            self.done_seen += 1
            name = documents.read_run(left).name
            tag = layout.tag_name(name, record.step)
            if tags.get(tag) != record.commit:
                found.append(f"step {record.step} is done, and its tag names {tags.get(tag)}")
            elif self.manifest_of(tag) != record.manifest_sha256:
                found.append(f"step {record.step} is done, and its tag holds another manifest")
        counted = left / RECORDS / "commits.json"
        if made > (len(json.loads(counted.read_bytes())) if counted.is_file() else 0):
            found.append(f"{made} commits were made, and fewer counted")
        for tag in tags:
            parsed = layout.parse_tag(tag)
            assert parsed is not None
            directory = left / layout.checkpoint_dir(parsed[1])
            if not (directory / layout.MANIFEST).is_file():
                found.append(f"{tag} is on the Hub, and the checkpoint is gone from this disk")
            elif documents.verify_checkpoint(directory):
                found.append(f"{tag} is on the Hub, and the checkpoint on this disk is not whole")
        return found


@pytest.fixture
def cuts(hub: Hub, tmp_path: Path) -> PowerCuts:
    (tmp_path / "left").mkdir()
    return PowerCuts(hub, tmp_path / "left")


def publish_under(cuts: PowerCuts, run: Path, *, ignored: tuple[str, ...] = ()) -> ForgetfulDisk:
    disk = ForgetfulDisk(run, ignored=ignored, after=cuts)
    publish_here(run, disk=disk)
    return disk


def test_no_record_is_ahead_of_the_hub_whenever_the_power_fails(cuts: PowerCuts, tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs", steps=(0, 1), n_samples=8)
    disk = publish_under(cuts, run)
    assert cuts.ahead == []
    kinds = {call.split()[0] for call in disk.calls}
    assert kinds == {"mkdir", "open", "write", "fsync", "rename", "fsync-directory"} and len(disk.calls) > 40
    assert cuts.done_seen > 10, "records of what is done were among what was left"
    left = disk.after_power_cut(tmp_path / "left" / "end", "least")
    assert [record.state for record in Queue(left, REPO).records()] == ["done", "done"], "and in the end none is behind"


@pytest.mark.parametrize("ignored", ["fsync", "fsync-directory"])
def test_the_model_notices_a_sync_that_is_left_out(cuts: PowerCuts, tmp_path: Path, ignored: str) -> None:
    run = write_run(tmp_path / "runs", steps=(0,))
    try:
        publish_under(cuts, run, ignored=(ignored,))
        seen = cuts.ahead != []
    except ValueError:  # a record whose name survived and whose content did not
        seen = True
    assert seen


@pytest.mark.parametrize("early", ["tag", "verify", "commit"])
def test_a_record_before_the_confirmation_would_be_noticed(
    cuts: PowerCuts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, early: str
) -> None:
    """The publisher made to record too early, in three ways: each is seen."""
    run = write_run(tmp_path / "runs", steps=(0,))
    disk = ForgetfulDisk(run, after=cuts)
    queue = Queue(run, REPO, disk=disk)

    def record_early() -> None:
        queue.save(queue.record(0).model_copy(update={"state": "done", "commit": "0" * 40}))

    if early == "commit":
        operations = commits.operations_of

        def before_commit(*args: object) -> object:
            record_early()
            return operations(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(commits, "operations_of", before_commit)
    else:
        target, name = (commits.Remote, "tag") if early == "tag" else (commits, "verify")
        real: Callable[..., object] = getattr(target, name)

        def before(*args: object) -> object:
            record_early()
            return real(*args)

        monkeypatch.setattr(target, name, before)
    publish_here(run, disk=disk)
    assert any("is done, and its tag names" in text for text in cuts.ahead)


def test_the_hub_knows_no_checkpoint_that_a_power_cut_takes_away(cuts: PowerCuts, tmp_path: Path) -> None:
    """Published in the moment between the rename of a checkpoint and the sync that makes it durable."""
    run = begin(tmp_path / "small")
    published = []

    def at_the_rename(disk: ForgetfulDisk) -> None:
        if disk.calls[-1] == f"rename {layout.step_dir(1)}":
            published.append(len(disk.calls))
            publish_here(run, disk=disk)
        if published:
            cuts(disk)

    disk = ForgetfulDisk(run, after=at_the_rename)
    with CheckpointWriter(run, disk=disk) as writer:
        writer.save(contents(1))
    assert published and cuts.of_the_hub()[0].keys() == {"small-step-1"}
    assert cuts.ahead == []


def test_main_is_counted_before_it_moves(cuts: PowerCuts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "runs", steps=(0,))
    move = main_branch.move_main

    def uncounted(*args: object, before_commit: object) -> str:
        del before_commit
        return move(*args, before_commit=lambda _: None)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(main_branch, "move_main", uncounted)
        disk = publish_under(cuts, run)
        cuts(disk)
    assert any("commits were made, and fewer counted" in text for text in cuts.ahead), "it would be noticed"


def test_a_halt_outlives_a_power_cut(tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs", steps=(0, 1), max_steps=9)
    disk = ForgetfulDisk(run)
    halt(run, 1, "loss is nan", disk=disk)
    left = disk.after_power_cut(tmp_path / "left", "least")
    assert halted(left) == Halt(step=1, reason="loss is nan")


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_disk_that_refuses_leaves_the_hub_and_the_records_in_agreement(hub: Hub, tmp_path: Path, number: int) -> None:
    """At every eleventh call in turn; then the disk is mended, and the next publisher ends what was begun."""
    run = write_run(tmp_path / "count", steps=(0, 1))
    counting = CountingDisk()
    publish_here(run, disk=counting)
    for n in itertools.islice(range(1, len(counting.calls) + 1), 3, None, 11):
        hub.remove("models", REPO)
        run = write_run(tmp_path / f"run-{n}", steps=(0, 1))
        with pytest.raises(OSError, match=r"Input/output error|No space left"):
            publish_here(run, disk=RefusingDisk(n, number, persistent=True))
        publish_here(run)
        assert [record.state for record in Queue(run, REPO).records()] == ["done", "done"]
        log = hub.repository("models", REPO).log("demo")
        assert [row["title"] for row in log[::-1][1:]] == ["demo step 0", "demo step 1"], "once each"
        assert not list((run / RECORDS).glob(".*.tmp"))


def test_a_disk_that_refuses_is_one_sentence(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of records is a file: neither the command nor the process of a training run can write there."""
    from pico_train.errors import StorageError
    from pico_train.publish.queue import not_recorded
    from pico_train.publish.supervisor import Supervisor

    del hub, monkeypatch
    run = write_run(tmp_path)
    (run / "publish").write_text("in the way")
    with pytest.raises(StorageError, match=r"cannot be recorded in .*publish \(.*\): make room or give leave"):
        publish_run(run, QUICK)
    job = {"task": "publish", "run_dir": str(run), "settings": QUICK.model_dump(mode="json"), "steps": None}
    last = Supervisor(job, None, lambda _: None).run()
    assert (last["event"], last["exit_code"]) == ("denied", 4)
    assert last["error"].startswith(str(not_recorded(run, OSError(errno.EEXIST, "File exists")))[:30])
