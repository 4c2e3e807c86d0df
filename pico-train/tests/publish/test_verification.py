"""What the publisher checks before it believes: a test for each check, which fails where the check is taken out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from support.publishing import QUICK, REPO, content, evaluation_of, publish_here, reseal

from pico_conformance import Fault, Hub
from pico_conformance.gitstore import Repository
from pico_conformance.published import put_files
from pico_conformance.runs import add_checkpoint, write_run
from pico_schema import documents, layout, read_checkpoint, read_run
from pico_schema.digests import git_blob_id, sha256_file
from pico_train.errors import CheckpointError, PublishError
from pico_train.publish import commits, dry_run, main_branch, revision
from pico_train.publish.queue import Queue, StepRecord
from pico_train.publish.remote import DeniedError, MismatchError, Remote, RemoteFile, TransientError, _understand


@pytest.fixture
def remote(hub: Hub) -> Remote:
    """The repository, made."""
    found = Remote(REPO, timeout=60.0)  # of a machine that has other things to do
    found.create_repository(private=False, collection=None)
    del hub
    return found


@pytest.fixture
def git(hub: Hub) -> Iterator[Callable[[], Repository]]:
    yield lambda: hub.repository("models", REPO)


def publish_one(remote: Remote, run: Path, step: int) -> commits.Published:
    """One attempt."""
    return commits.publish_step(remote, run, step, QUICK, before_commit=lambda _: None)


def states(run: Path) -> list[str]:
    return [record.state for record in Queue(run, REPO).records()]


def refusals(events: list[dict[str, Any]]) -> dict[int, str]:
    return {event["step"]: event["error"] for event in events if event["event"] == "refused"}


class TestATagThatIsThereAlready:
    """It may be of a run before, of a person, or moved: what it names is verified."""

    def test_naming_another_commit_is_refused_at_the_first_publication(self, hub: Hub, run: Path) -> None:
        other = put_files(hub, REPO, "main", {"notes.md": b"not a checkpoint"})
        hub.repository("models", REPO).move("refs/tags/demo-step-1", other, None)
        events = publish_here(run)
        assert "is not what was sealed at step 1" in refusals(events)[1]
        assert states(run) == ["done", "refused", "done"]

    def test_naming_the_checkpoint_of_another_step_is_refused(self, run: Path, git: Any) -> None:
        publish_here(run, steps=[0])
        git().move("refs/tags/demo-step-1", git().resolve("demo-step-0"), None)
        assert "is not what was sealed at step 1" in refusals(publish_here(run, steps=[1]))[1]

    def test_that_was_moved_since_is_seen_though_the_record_says_done(self, run: Path, git: Any) -> None:
        publish_here(run)
        assert states(run) == ["done"] * 3
        git().delete("refs/tags/demo-step-1")
        git().move("refs/tags/demo-step-1", git().resolve("demo-step-2"), None)
        assert list(refusals(publish_here(run))) == [1]
        assert states(run) == ["done", "refused", "done"]

    def test_that_is_right_is_not_published_again(self, run: Path, git: Any) -> None:
        publish_here(run)
        for record in Queue(run, REPO).records():
            Queue(run, REPO).save(StepRecord(step=record.step, manifest_sha256=record.manifest_sha256))
        publish_here(run)
        assert states(run) == ["done"] * 3
        assert len(git().log("demo")) == 4

    def test_that_the_hub_did_not_take_is_set_again(
        self, remote: Remote, run: Path, monkeypatch: pytest.MonkeyPatch, git: Any
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(remote, "tag", lambda *_: None)
            with pytest.raises(TransientError, match=r"tag demo-step-0 .* does not name commit"):
                publish_one(remote, run, 0)
        assert publish_one(remote, run, 0).commit == git().resolve("demo-step-0")
        assert len(git().log("demo")) == 2, "one commit all the same"


class TestWhatTheHubHolds:
    @pytest.mark.parametrize("left", [layout.MANIFEST, layout.REVISIONS])
    def test_half_of_a_revision_is_not_one_of_ours(self, hub: Hub, remote: Remote, run: Path, left: str) -> None:
        publish_one(remote, run, 0)
        there = content(hub, "demo")[left]
        put_files(hub, REPO, "half", {left: there})
        with pytest.raises(DeniedError, match=r"has only one of manifest\.json and revisions\.json"):
            commits.read_head(remote, remote.refs().branches["half"])

    @pytest.mark.parametrize("damaged", [layout.MANIFEST, layout.REVISIONS])
    def test_a_document_that_is_none_is_denied_in_one_sentence(
        self, hub: Hub, remote: Remote, run: Path, damaged: str
    ) -> None:
        publish_one(remote, run, 0)
        for raw in (b'{"kind": "run"}', b"[" * 100_000, b'{"step": ' + b"9" * 5000 + b"}", b"\xff"):
            hub.commit_outside("models", REPO, "demo", damaged, raw)
            with pytest.raises(DeniedError, match=damaged) as caught:
                publish_one(remote, run, 1)
            assert "\n" not in str(caught.value)

    def test_a_listing_that_hides_a_file_of_the_manifest_is_asked_for_again(
        self, remote: Remote, run: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish_one(remote, run, 0)
        whole = remote.tree(remote.refs().branches["demo"])
        path = "captures/train.safetensors"
        entry = whole[path]
        for wrong in (None, RemoteFile(entry.size + 1, "", entry.sha256), RemoteFile(entry.size, "", "0" * 64)):
            changed = {name: file for name, file in whole.items() if name != path} | ({path: wrong} if wrong else {})
            monkeypatch.setattr(remote, "tree", lambda _, changed=changed: changed)
            with pytest.raises(TransientError, match="the listing and the manifest disagree about captures/train"):
                publish_one(remote, run, 1)

    def test_a_head_whose_tag_names_another_checkpoint_is_not_built_upon(
        self, remote: Remote, run: Path, git: Any
    ) -> None:
        """Else the index would name that commit for this step, for ever."""
        publish_one(remote, run, 0)
        publish_one(remote, run, 1)
        git().delete("refs/tags/demo-step-1")
        git().move("refs/tags/demo-step-1", git().resolve("demo-step-0"), None)
        with pytest.raises(TransientError, match="the tag of step 1 names another checkpoint"):
            publish_one(remote, run, 2)

    def test_another_checkpoint_of_the_step_is_not_replaced(self, hub: Hub, remote: Remote, run: Path) -> None:
        publish_one(remote, run, 0)
        published = publish_one(remote, run, 1)
        hub.repository("models", REPO).delete("refs/tags/demo-step-1")
        manifest = read_checkpoint(run / layout.checkpoint_dir(1))
        reseal(run, 1, manifest.model_copy(update={"tokens_seen": manifest.tokens_seen + 1}))
        with pytest.raises(MismatchError, match="holds another checkpoint of step 1"):
            publish_one(remote, run, 1)
        assert hub.repository("models", REPO).resolve("demo") == published.commit

    def test_a_dry_run_says_so_too(self, remote: Remote, run: Path) -> None:
        for step in (0, 1):
            publish_one(remote, run, step)
        manifest = read_checkpoint(run / layout.checkpoint_dir(1))
        reseal(run, 1, manifest.model_copy(update={"tokens_seen": manifest.tokens_seen + 1}))
        events: list[tuple[str, int | None]] = []
        dry_run.plan(remote, run, QUICK, None, lambda event, **details: events.append((event, details["step"])))
        assert [event for event in events if event[0] != "attempt"] == [("refused", 1), ("planned", 2)]

    def test_a_dry_run_is_denied_where_publishing_would_be(self, hub: Hub, remote: Remote, run: Path) -> None:
        publish_one(remote, run, 0)
        hub.commit_outside("models", REPO, "demo", layout.REVISIONS, b"{}")
        with pytest.raises(DeniedError, match=layout.REVISIONS):
            dry_run.plan(remote, run, QUICK, None, lambda *_, **__: None)


class TestAfterACommit:
    @pytest.mark.parametrize(("step", "path"), [(0, layout.MODEL_CONFIG), (1, layout.WEIGHTS)])
    def test_a_file_that_the_hub_took_otherwise_is_found(
        self, remote: Remote, run: Path, monkeypatch: pytest.MonkeyPatch, step: int, path: str
    ) -> None:
        """One letter of the configuration, and one bit of the weights: neither changes a size."""
        from huggingface_hub import CommitOperationAdd

        for before in range(step):
            publish_one(remote, run, before)
        create = remote.api.create_commit
        raw = bytearray((run / layout.checkpoint_dir(step) / path).read_bytes())
        raw[-3] ^= 1

        def altered(*args: Any, operations: list[Any], **rest: Any) -> Any:
            changed = [CommitOperationAdd(path, bytes(raw)) if o.path_in_repo == path else o for o in operations]
            return create(*args, operations=changed, **rest)

        monkeypatch.setattr(remote.api, "create_commit", altered)
        with pytest.raises(MismatchError, match=rf"{path} is not what was sealed at step {step}"):
            publish_one(remote, run, step)

    def test_captures_that_the_checkpoint_has_not_do_not_pass_for_its_own(
        self, hub: Hub, remote: Remote, run: Path
    ) -> None:
        publish_one(remote, run, 0)
        hub.commit_outside("models", REPO, "demo", "captures/other.safetensors", b"somebody's")
        with pytest.raises(MismatchError, match=r"captures/other.safetensors is not what was sealed at step 1"):
            publish_one(remote, run, 1)

    @pytest.mark.usefixtures("hub")
    def test_what_was_sealed_anew_meanwhile_is_not_recorded_as_done(self, run: Path) -> None:
        """The record is of the manifest that was published, not of whichever lies there by then."""
        published = commits.publish_step

        def slow(remote: Remote, run: Path, step: int, *args: Any, **rest: Any) -> commits.Published:
            done = published(remote, run, step, *args, **rest)
            manifest = read_checkpoint(run / layout.checkpoint_dir(step))
            reseal(run, step, manifest.model_copy(update={"tokens_seen": manifest.tokens_seen + 1}))
            return done

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(commits, "publish_step", slow)
            with pytest.raises(StopPublishing):
                publish_here_once(run, patch)
        assert states(run)[0] == "pending"


class StopPublishing(Exception):
    pass


def publish_here_once(run: Path, patch: pytest.MonkeyPatch) -> None:
    """Publish until the first step is said to be done."""
    from pico_train.publish.worker import Worker

    say = Worker.say

    def until_done(self: Worker, event: str, **details: Any) -> None:
        say(self, event, **details)
        if event == "done":
            raise StopPublishing

    patch.setattr(Worker, "say", until_done)
    publish_here(run)


class TestMain:
    def test_main_does_not_move_before_the_branch_has_the_step(self, remote: Remote, run: Path) -> None:
        def move(step: int) -> str:
            return main_branch.move_main(remote, run, step, QUICK, before_commit=lambda _: None)

        with pytest.raises(TransientError, match="step 2 of demo is not on its branch yet"):
            move(2)
        publish_one(remote, run, 0)
        with pytest.raises(TransientError, match="step 2 of demo is not on its branch yet"):
            move(2)

    def test_main_does_not_move_to_another_run_of_that_name(self, remote: Remote, run: Path, tmp_path: Path) -> None:
        publish_one(remote, run, 0)
        other = write_run(tmp_path / "other", seed=9)
        with pytest.raises(DeniedError, match="belongs to another run"):
            main_branch.move_main(remote, other, 0, QUICK, before_commit=lambda _: None)

    def test_main_that_came_out_otherwise_is_found(
        self, remote: Remote, run: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for step in (0, 1, 2):
            publish_one(remote, run, step)
        monkeypatch.setattr(main_branch, "operations_of", lambda *_: [])  # nothing but what is referred to
        with pytest.raises(MismatchError, match="is not what was sealed at step 2"):
            main_branch.move_main(remote, run, 2, QUICK, before_commit=lambda _: None)

    def test_a_large_file_of_another_content_is_sent_not_referred_to(self, hub: Hub, remote: Remote, run: Path) -> None:
        """The same path on the branch, other bytes: the run got other validation rows after it was published."""
        for step in (0, 1, 2):
            publish_one(remote, run, step)
        rows = run / layout.VALIDATION_ROWS
        rows.write_bytes(rows.read_bytes()[::-1])
        document = read_run(run)
        assert document.validation is not None
        validation = document.validation.model_copy(update={"sha256": sha256_file(rows)})
        documents.write(run / layout.RUN_MANIFEST, document.model_copy(update={"validation": validation}))
        main_branch.move_main(remote, run, 2, QUICK, before_commit=lambda _: None)
        assert content(hub, "main")[layout.VALIDATION_ROWS] == rows.read_bytes()


class TestAnswers:
    def test_a_document_comes_as_it_is_listed_or_is_asked_for_again(self, hub: Hub, remote: Remote, run: Path) -> None:
        commit = publish_one(remote, run, 0).commit
        listed = remote.tree(commit)
        for path in (layout.MANIFEST, layout.WEIGHTS):
            assert remote.read(commit, path, listed[path]) == content(hub, "demo")[path]
            hub.faults.add(Fault("GET .*(resolve|_cdn|_lfs)/", "flip", at=0.5))
            if path == layout.MANIFEST:
                with pytest.raises(TransientError, match="came with other content than listed"):
                    remote.read(commit, path, listed[path])
            hub.faults.clear()
        longer = RemoteFile(listed[layout.MANIFEST].size - 1, listed[layout.MANIFEST].blob_id, None)
        with pytest.raises(TransientError, match="came with other content"):
            remote.read(commit, layout.MANIFEST, longer)

    def test_a_document_that_claims_to_be_huge_is_not_read(self, hub: Hub, remote: Remote) -> None:
        mark = hub.log.mark()
        with pytest.raises(DeniedError, match=r"claims 1000000000000 bytes: too large for a document"):
            remote.read("main", "run.json", RemoteFile(10**12, "", None))
        assert hub.log.count("GET", since=mark) == 0

    def test_files_of_one_size_are_told_apart(self) -> None:
        ours = revision.in_memory(b"hello")
        assert ours.same_as(RemoteFile(5, git_blob_id(b"hello"), None))
        assert not ours.same_as(RemoteFile(5, git_blob_id(b"hullo"), None))
        assert ours.same_as(RemoteFile(5, "the pointer's", ours.sha256))
        assert not ours.same_as(RemoteFile(5, git_blob_id(b"hello"), revision.in_memory(b"hullo").sha256))
        assert not ours.same_as(RemoteFile(6, git_blob_id(b"hello"), ours.sha256)) and not ours.same_as(None)
        assert RemoteFile(5, git_blob_id(b"hello"), None).holds(b"hello")
        assert not RemoteFile(5, git_blob_id(b"hello"), None).holds(b"hullo")
        assert RemoteFile(5, "x", ours.sha256).holds(b"hello") and not RemoteFile(5, "x", ours.sha256).holds(b"hullo")

    @pytest.mark.parametrize(
        ("status", "headers", "kind", "wait"),
        [
            (401, {}, DeniedError, None),
            (403, {}, DeniedError, None),
            (429, {"Retry-After": "7"}, TransientError, 7.0),
            (503, {"Retry-After": "1e9"}, TransientError, 86_400.0),
            (503, {"Retry-After": "soon"}, TransientError, None),
            (412, {}, TransientError, None),
        ],
    )
    def test_what_the_hub_answers_is_understood(
        self, status: int, headers: dict[str, str], kind: type[PublishError], wait: float | None
    ) -> None:
        error = Exception("went wrong")
        error.response = SimpleNamespace(status_code=status, headers=httpx.Headers(headers))  # type: ignore[attr-defined]
        found = _understand(error, "commit")
        assert type(found) is kind
        assert getattr(found, "retry_after", None) == wait


class TestWhatIsOnThisDisk:
    """Whatever is not what was sealed is not published; a person is told which file."""

    def test_a_manifest_of_another_run_or_step(self, run: Path) -> None:
        manifest = read_checkpoint(run / layout.checkpoint_dir(1))
        for change in ({"run_id": "f" * 32}, {"step": 2}):
            reseal(run, 1, manifest.model_copy(update=change))
            with pytest.raises(CheckpointError, match=r"step-00000001: its manifest belongs to step"):
                revision.package(run, 1)

    def test_a_manifest_that_the_index_does_not_list(self, run: Path) -> None:
        directory = run / layout.checkpoint_dir(1)
        manifest = read_checkpoint(directory)
        documents.write(directory / layout.MANIFEST, manifest.model_copy(update={"tokens_seen": 5}))
        with pytest.raises(CheckpointError, match=r"manifest\.json is not the one that run\.json lists"):
            revision.package(run, 1)

    def test_a_checkpoint_that_is_not_in_the_index_yet_is_published(self, run: Path) -> None:
        document = read_run(run)
        documents.write(
            run / layout.RUN_MANIFEST, document.model_copy(update={"checkpoints": document.checkpoints[:1]})
        )
        assert revision.package(run, 2).manifest.step == 2

    @pytest.mark.parametrize("damage", [lambda raw: raw[:-1], lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]), None])
    @pytest.mark.parametrize("path", [layout.WEIGHTS, layout.TRAIN_BATCH, layout.MODEL_CONFIG])
    def test_a_file_that_is_short_altered_or_gone(
        self, run: Path, path: str, damage: Callable[[bytes], bytes] | None
    ) -> None:
        file = run / layout.checkpoint_dir(1) / path
        if damage is None:
            file.unlink()
        else:
            file.write_bytes(damage(file.read_bytes()))
        with pytest.raises(CheckpointError, match=rf"{path} is not the file that was sealed"):
            revision.package(run, 1)

    def test_validation_rows_that_are_not_those_of_the_run(self, run: Path) -> None:
        rows = run / layout.VALIDATION_ROWS
        rows.write_bytes(rows.read_bytes()[:-1] + b"\0")
        bundle = revision.package(run, 1)
        index = revision.index_with(None, bundle)
        with pytest.raises(CheckpointError, match=layout.VALIDATION_ROWS):
            revision.revision_files(bundle, index, run, readme="")

    def test_evaluations_of_another_run_or_under_another_name_are_left_out(self, run: Path) -> None:
        (run / layout.EVALUATIONS).mkdir()
        good = evaluation_of(run, 1)
        documents.write(run / layout.evaluation_file(1), good)
        documents.write(run / layout.evaluation_file(2), good.model_copy(update={"run_id": "f" * 32, "step": 2}))
        documents.write(run / layout.evaluation_file(0), good)  # step 1 under the name of step 0
        (run / layout.EVALUATIONS / "step-00000003.json").write_text('{"tasks": {"t": ' + "9" * 5000 + "}}")
        assert list(revision.package(run, 1).evaluations) == [1]

    def test_only_lines_before_the_checkpoint_travel_and_main_gets_all(self, hub: Hub, run: Path) -> None:
        lines = [json.dumps({"step": step, "loss": 1.0}) for step in range(4)]
        (run / layout.METRICS_LOG).write_text("\n".join(lines) + "\n")
        publish_here(run)
        counts = [content(hub, f"demo-step-{step}")[layout.METRICS_LOG].count(b"\n") for step in (0, 1, 2)]
        assert counts == [0, 1, 2] and content(hub, "main")[layout.METRICS_LOG].count(b"\n") == 4

    def test_a_record_of_another_manifest_does_not_count(self, run: Path) -> None:
        queue = Queue(run, REPO)
        queue.save(queue.record(1).model_copy(update={"state": "done", "commit": "c"}))
        manifest = read_checkpoint(run / layout.checkpoint_dir(1))
        reseal(run, 1, manifest.model_copy(update={"tokens_seen": 5}))
        assert states(run) == ["pending"] * 3

    @pytest.mark.usefixtures("hub")
    def test_main_waits_for_the_last_step_and_for_all_others(self, tmp_path: Path) -> None:
        run = write_run(tmp_path, steps=(0, 1), max_steps=2)
        assert not [event for event in publish_here(run) if event["event"] == "main"]
        add_checkpoint(run, 2)
        weights = run / layout.checkpoint_dir(2) / layout.WEIGHTS
        whole = weights.read_bytes()
        weights.write_bytes(whole[:-1])
        assert not [event for event in publish_here(run) if event["event"] == "main"], "step 2 is refused"
        weights.write_bytes(whole)
        for record in Queue(run, REPO).records():
            if record.state == "refused":
                Queue(run, REPO).save(record.model_copy(update={"state": "pending"}))
        assert [event["step"] for event in publish_here(run) if event["event"] == "main"] == [2]


class TestWhatOthersMayHaveWritten:
    """Beside a sealed checkpoint, and under its name."""

    def test_an_evaluation_that_is_left_out_is_told_of(self, hub: Hub, run: Path) -> None:
        (run / layout.EVALUATIONS).mkdir()
        huge = json.loads(documents.dump(evaluation_of(run, 1)))
        huge["tasks"] = {"t": int("9" * 400)}  # no floating-point number
        (run / layout.evaluation_file(1)).write_text(json.dumps(huge))
        (run / layout.evaluation_file(2)).write_text("[" * 100_000)
        told = [event["error"] for event in publish_here(run) if event["event"] == "left_out"]
        assert len(told) == 2 and all(text.startswith("not published: ") and "\n" not in text for text in told)
        assert layout.evaluation_file(1) in told[0] and layout.evaluation_file(2) in told[1]
        assert states(run) == ["done"] * 3
        assert not [path for path in content(hub, "demo") if path.startswith(layout.EVALUATIONS)]

    def test_a_checkpoint_that_is_a_link_is_not_published(self, hub: Hub, run: Path, tmp_path: Path) -> None:
        directory = run / layout.checkpoint_dir(1)
        directory.rename(tmp_path / "elsewhere")
        directory.symlink_to(tmp_path / "elsewhere")
        publish_here(run)
        assert [tag["name"] for tag in hub.repository("models", REPO).refs("refs/tags/")] == [
            "demo-step-0",
            "demo-step-2",
        ]
        with pytest.raises(CheckpointError, match="link"):
            revision.package(run, 1)

    def test_tensors_that_share_their_bytes_are_not_published(self, hub: Hub, run: Path) -> None:
        """Sealed so, with fitting digests: a reader would take one for the other."""
        directory = run / layout.checkpoint_dir(1)
        weights = directory / layout.WEIGHTS
        raw = weights.read_bytes()
        size = int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8 : 8 + size])
        names = [name for name in header if name != "__metadata__"]
        first = next(name for name in names if header[name]["data_offsets"][0] == 0)
        twin = next(name for name in names if name != first and header[name]["shape"] == header[first]["shape"])
        header[twin]["data_offsets"] = header[first]["data_offsets"]
        text = json.dumps(header).encode()
        weights.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + size :])
        manifest = read_checkpoint(directory)
        entry = manifest.files[layout.WEIGHTS]
        changed = entry.model_copy(update={"size": weights.stat().st_size, "sha256": sha256_file(weights)})
        reseal(run, 1, manifest.model_copy(update={"files": {**manifest.files, layout.WEIGHTS: changed}}))
        assert "model.safetensors" in refusals(publish_here(run))[1]
        assert states(run) == ["done", "refused", "done"]
        del hub
