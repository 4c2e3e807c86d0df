"""Publishing against the loopback Hub: what is committed, in which order, and that training never notices."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.publishing import QUICK, REPO, content, reseal

from pico_conformance import Fault, Hub
from pico_conformance.gitstore import Repository
from pico_conformance.runs import add_checkpoint, write_run
from pico_schema import documents, layout, read_run
from pico_train.errors import ConfigError, PublishError
from pico_train.publish import NotPublishing, check_access, start_publisher
from pico_train.publish.command import publish_run
from pico_train.publish.publisher import read_status
from pico_train.publish.queue import PublishLock, Queue

Repo = Callable[[], Repository]


def titles(repository: Repository, branch: str = "demo") -> list[str]:
    """Titles of a branch's commits, oldest first, without the empty beginning."""
    return [row["title"] for row in repository.log(repository.resolve(branch))][::-1][1:]


def sealed_files(run: Path, step: int) -> dict[str, bytes]:
    root = run / layout.checkpoint_dir(step)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_each_step_is_one_commit_and_one_tag_with_the_sealed_bytes(hub: Hub, run: Path, repository: Repo) -> None:
    report = publish_run(run, QUICK)
    assert report.exit_code == 0 and report.error is None
    assert titles(repository()) == ["demo step 0", "demo step 1", "demo step 2"]
    assert [tag["name"] for tag in repository().refs("refs/tags/")] == [f"demo-step-{n}" for n in (0, 1, 2)]
    for step in (0, 1, 2):
        there = content(hub, f"demo-step-{step}")
        local = sealed_files(run, step)
        assert {path: there[path] for path in local} == local
        of_run = {layout.RUN_MANIFEST, layout.RUN_CONFIG, layout.METRICS_LOG, layout.VALIDATION_ROWS}
        assert set(there) - set(local) == of_run | {layout.REVISIONS, layout.CARD}
        assert there[layout.VALIDATION_ROWS] == (run / layout.VALIDATION_ROWS).read_bytes()


def test_main_moves_to_the_last_checkpoint_when_the_run_is_finished(hub: Hub, run: Path, repository: Repo) -> None:
    publish_run(run, QUICK, steps=[0, 1])
    assert titles(repository(), "main") == ["main: the card of all runs"]
    mark = hub.log.mark()
    publish_run(run, QUICK)
    assert titles(repository(), "main")[1:] == ["main: demo step 2"]
    main, last = content(hub, "main"), sealed_files(run, 2)
    assert {path: main[path] for path in last} == last
    sent = [request.received for request in hub.log.matching("PUT /_lfs/", since=mark)]
    assert sum(sent) < 2 * sum(len(raw) for raw in last.values()), "the move to main sends no large file again"
    publish_run(run, QUICK)
    assert titles(repository(), "main")[1:] == ["main: demo step 2"], "once is enough"


def test_the_card_and_the_index_tell_what_is_there(hub: Hub, run: Path, repository: Repo) -> None:
    publish_run(run, QUICK)
    there = content(hub, "demo")
    card = there[layout.CARD].decode()
    assert card.startswith("---\nlicense: apache-2.0\n")
    for words in ("Llama", "6,736", "## Load a step", 'revision="demo-step-2"', "pico-analyze compute cka hf://",
                  "## Loss curve", "max steps", "@misc{", "stdlib", "| `demo-step-1` | 64 | 3.962 |"):  # fmt: skip
        assert words in card, words
    index = json.loads(there[layout.REVISIONS])
    assert [row["step"] for row in index["revisions"]] == [0, 1, 2]
    commits = [repository().resolve(f"demo-step-{step}") for step in (0, 1)]
    assert [row["commit"] for row in index["revisions"]] == [*commits, None]
    assert [entry["step"] for entry in json.loads(there[layout.RUN_MANIFEST])["checkpoints"]] == [0, 1, 2]


@pytest.mark.usefixtures("repository")
def test_only_what_changed_travels(hub: Hub, tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs", max_steps=100)
    publish_run(run, QUICK, steps=[0, 1])
    mark = hub.log.mark()
    publish_run(run, QUICK, steps=[2])
    (commit,) = hub.log.matching("POST .*/commit/demo", since=mark)
    assert commit.received < 30_000, "tokenizer and configuration stay where they are"
    changed = [
        path
        for path, raw in sealed_files(run, 2).items()
        if sealed_files(run, 1).get(path) != raw and not path.endswith((".json",))
    ]
    sent = hub.log.matching("PUT /_lfs/", since=mark)
    assert len(sent) == len(changed) == 5


def test_files_of_the_step_before_do_not_stay(hub: Hub, tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs", steps=(0, 1))
    _leave_out(run, 1, "captures/train.safetensors")
    publish_run(run, QUICK)
    assert "captures/train.safetensors" in content(hub, "demo-step-0")
    assert "captures/train.safetensors" not in content(hub, "demo-step-1")


def _leave_out(run: Path, step: int, path: str) -> None:
    """Make a checkpoint that never captured that split."""
    directory = run / layout.checkpoint_dir(step)
    manifest = documents.read_checkpoint(directory)
    files = {name: entry for name, entry in manifest.files.items() if name != path}
    captures = tuple(capture for capture in manifest.captures if capture.file != path)
    reseal(run, step, manifest.model_copy(update={"files": files, "captures": captures}))
    (directory / path).unlink()


def test_a_pruned_training_state_is_left_out(hub: Hub, run: Path) -> None:
    (run / layout.checkpoint_dir(1) / "training_state" / "state.pt").unlink()
    assert publish_run(run, QUICK).exit_code == 0
    assert "training_state/state.pt" in content(hub, "demo-step-0")
    assert "training_state/state.pt" not in content(hub, "demo-step-1")
    assert "training_state/state.pt" in content(hub, "demo-step-2")


@pytest.mark.usefixtures("hub")
def test_a_run_in_training_is_published_seal_by_seal(tmp_path: Path, repository: Repo) -> None:
    run = write_run(tmp_path / "runs", steps=(0,), max_steps=4)
    publisher = start_publisher(run, QUICK)
    for step in (1, 2, 4):
        add_checkpoint(run, step)
        before = time.perf_counter()
        publisher.enqueue(step)
        assert time.perf_counter() - before < 5, "training does not wait"
    status = publisher.close(30)
    assert (status.published, status.pending, status.error) == (4, (), None)
    assert titles(repository()) == [f"demo step {step}" for step in (0, 1, 2, 4)]
    assert titles(repository(), "main")[-1] == "main: demo step 4"


def test_training_goes_on_when_the_hub_is_gone(hub: Hub, run: Path) -> None:
    hub.faults.add(Fault(".", "drop", times=10_000))
    publisher = start_publisher(run, QUICK)
    before = time.perf_counter()
    publisher.enqueue(2)
    assert time.perf_counter() - before < 5, "the hub's answers are waited for much longer"
    deadline = time.monotonic() + 200
    while publisher.status().error is None and time.monotonic() < deadline:
        time.sleep(0.05)
    before = time.perf_counter()
    status = publisher.close(0.5)
    assert time.perf_counter() - before < 8
    assert status.pending == (0, 1, 2) and "failed" in str(status.error)
    hub.faults.clear()
    assert publish_run(run, QUICK).exit_code == 0, "the next one takes up what is pending"


def test_without_a_repository_nothing_is_published(run: Path) -> None:
    publisher = start_publisher(run, QUICK.model_copy(update={"repo": None}))
    assert isinstance(publisher, NotPublishing)
    publisher.enqueue(0)
    assert publisher.close(1).line == "not published"
    assert check_access(QUICK.model_copy(update={"repo": None}), run) is None


def test_chosen_steps_first_and_the_others_later(hub: Hub, run: Path, repository: Repo) -> None:
    publish_run(run, QUICK, steps=[2])
    assert titles(repository()) == ["demo step 2"]
    assert publish_run(run, QUICK).exit_code == 0
    assert titles(repository()) == ["demo step 2", "demo step 0", "demo step 1"]
    index = json.loads(content(hub, "demo")[layout.REVISIONS])
    assert [row["step"] for row in index["revisions"]] == [0, 1, 2]


def test_a_dry_run_shows_commits_and_bytes_and_sends_nothing(hub: Hub, run: Path) -> None:
    report = publish_run(run, QUICK, dry_run=True)
    assert report.exit_code == 0
    assert [row["tag"] for row in report.rows] == ["demo-step-0", "demo-step-1", "demo-step-2"]
    assert all(50_000 < row["size"] < 100_000 for row in report.rows)
    assert report.rows[1]["files"] < report.rows[0]["files"]
    assert hub.log.count("POST|PUT|DELETE") == 0


def test_a_repository_that_was_emptied_is_filled_again(hub: Hub, run: Path, repository: Repo) -> None:
    publish_run(run, QUICK)
    hub.remove("models", REPO)
    assert publish_run(run, QUICK).exit_code == 0
    assert titles(repository()) == ["demo step 0", "demo step 1", "demo step 2"]


class TestRefusals:
    """What must not be published is not, and says why."""

    @pytest.mark.usefixtures("hub")
    def test_an_altered_file(self, run: Path, repository: Repo) -> None:
        weights = run / layout.checkpoint_dir(1) / layout.WEIGHTS
        raw = bytearray(weights.read_bytes())
        raw[-1] ^= 1
        weights.write_bytes(raw)
        report = publish_run(run, QUICK)
        assert report.exit_code == 3 and "is not the file that was sealed" in str(report.error)
        assert titles(repository()) == ["demo step 0", "demo step 2"]
        raw[-1] ^= 1
        weights.write_bytes(raw)
        assert publish_run(run, QUICK).exit_code == 0, "restored, it is published after all"

    @pytest.mark.usefixtures("hub")
    def test_weights_that_are_not_finite(self, tmp_path: Path, repository: Repo) -> None:
        run = write_run(tmp_path / "runs", steps=(0, 1))
        directory = run / layout.checkpoint_dir(1)
        raw = bytearray((directory / layout.WEIGHTS).read_bytes())
        raw[-4:] = b"\x00\x00\xc0\x7f"  # NaN in float32
        (directory / layout.WEIGHTS).write_bytes(raw)
        manifest = documents.read_checkpoint(directory)
        entry = manifest.files[layout.WEIGHTS].model_copy(update={"sha256": hashlib.sha256(raw).hexdigest()})
        files = {**manifest.files, layout.WEIGHTS: entry}
        reseal(run, 1, manifest.model_copy(update={"files": files}))
        report = publish_run(run, QUICK)
        assert report.exit_code == 3 and "NaN or infinity" in str(report.error)
        assert titles(repository()) == ["demo step 0"]

    def test_a_run_whose_loss_was_not_finite(self, hub: Hub, tmp_path: Path) -> None:
        run = write_run(tmp_path / "runs", steps=(0, 1), max_steps=9)
        hub.faults.add(Fault("POST .*/commit/", status=503, times=1000))
        publisher = start_publisher(run, QUICK)
        publisher.refuse(1, "loss is nan at step 2")
        publisher.close(5)
        hub.faults.clear()
        report = publish_run(run, QUICK)
        assert report.exit_code == 3 and "loss is nan at step 2" in str(report.error)
        assert hub.log.count("POST .*/commit/", since=hub.log.mark()) == 0
        assert read_status(run, QUICK).pending == (0, 1)
        add_checkpoint(run, 2)
        assert publish_run(run, QUICK).exit_code == 0, "a run that got past it is published"

    def test_a_file_that_holds_the_token(self, hub: Hub, run: Path, repository: Repo) -> None:
        (run / layout.RUN_CONFIG).write_text(f"note: {hub.token}\n")
        report = publish_run(run, QUICK)
        assert report.exit_code == 3 and "holds the token" in str(report.error)
        assert hub.token not in str(report)
        assert titles(repository()) == []


class TestAccess:
    """Found before training starts."""

    @pytest.mark.usefixtures("hub")
    def test_no_token(self, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("HF_TOKEN")
        with pytest.raises(ConfigError, match="there is no token for the Hub: set HF_TOKEN"):
            check_access(QUICK, run)

    def test_a_token_that_may_only_read(self, hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        hub.tokens["hf_reading"] = "read"
        monkeypatch.setenv("HF_TOKEN", "hf_reading")
        with pytest.raises(ConfigError, match="may only read"):
            check_access(QUICK, run)

    def test_a_token_that_may_not_write_here(self, hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert check_access(QUICK, run) is None
        hub.tokens["hf_elsewhere"] = "fineGrained"
        monkeypatch.setenv("HF_TOKEN", "hf_elsewhere")
        with pytest.raises(ConfigError, match="give a token that may write"):
            check_access(QUICK, run)

    @pytest.mark.usefixtures("hub")
    def test_a_wrong_token(self, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_TOKEN", "hf_wrongwrongwrong")
        with pytest.raises(ConfigError, match="401") as caught:
            check_access(QUICK, run)
        assert "hf_wrong" not in str(caught.value)

    @pytest.mark.usefixtures("hub")
    def test_a_branch_of_another_run(self, run: Path, tmp_path: Path) -> None:
        publish_run(run, QUICK)
        other = write_run(tmp_path / "elsewhere", seed=1)
        with pytest.raises(ConfigError, match="belongs to another run"):
            check_access(QUICK, other)
        with pytest.raises(ConfigError, match="belongs to another run"):
            check_access(QUICK, tmp_path / "new" / "demo")
        report = publish_run(other, QUICK)
        assert report.exit_code == 4 and "belongs to another run" in str(report.error)

    def test_a_hub_that_cannot_be_reached_is_a_warning(self, hub: Hub, run: Path) -> None:
        hub.faults.add(Fault(".", "drop", times=1000))
        warning = check_access(QUICK, run)
        assert warning is not None and "could not be reached" in warning

    def test_a_name_that_is_none(self) -> None:
        for name in ("model", "a/b/c", "org/na me", "org/x..y", "org/x--y", "../x", "org/" + "x" * 100, "org/x.git"):
            with pytest.raises(ValueError, match="is not the name of a repository"):
                type(QUICK)(repo=name)

    def test_visibility_and_collection_are_settings(self, hub: Hub, run: Path) -> None:
        hub.collections["tester/pico-123"] = {"slug": "tester/pico-123", "title": "Pico", "items": [], "owner": {},
                                              "lastUpdated": "2026-01-01T00:00:00.000Z", "private": False,
                                              "theme": "blue", "upvotes": 0, "position": 0}  # fmt: skip
        settings = QUICK.model_copy(update={"private": True, "collection": "tester/pico-123", "license": "mit"})
        assert publish_run(run, settings).exit_code == 0
        assert (hub.repository("models", REPO).path / "private").exists()
        assert [item["id"] for item in hub.collections["tester/pico-123"]["items"]] == [REPO]
        assert b"license: mit" in content(hub, "main")[layout.CARD]


class TestOnePublisher:
    @pytest.mark.usefixtures("hub")
    def test_a_second_one_on_the_same_run_stops_with_a_clear_error(self, run: Path) -> None:
        with PublishLock(run), pytest.raises(PublishError, match="is being published by process"):
            publish_run(run, QUICK)

    @pytest.mark.usefixtures("hub")
    def test_the_commit_limit_is_kept(self, run: Path, repository: Repo) -> None:
        """Two commits an hour: the third step stays pending, and the Hub never sees more."""
        publisher = start_publisher(run, QUICK.model_copy(update={"commits_per_hour": 2}))
        deadline = time.monotonic() + 200
        while publisher.status().published < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(0.5)
        status = publisher.close(1)
        assert (status.published, status.pending) == (2, (2,))
        assert "2 commits an hour" in str(status.error)
        assert len(titles(repository())) == 2
        wait = Queue(run, REPO).seconds_until_commit(2)
        assert 3500 < wait <= 3600, "the limit outlives the process"

    def test_the_records_are_kept_per_repository(self, hub: Hub, run: Path) -> None:
        publish_run(run, QUICK)
        other = QUICK.model_copy(update={"repo": "tester/other"})
        assert publish_run(run, other).exit_code == 0
        assert len(hub.repository("models", "tester/other").refs("refs/tags/")) == 3
        assert read_run(run).name == "demo"
