"""Steps that were published and set aside since: the branch says so, and what is published anew gets its place."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.publishing import QUICK, REPO, content, evaluation_of, publish_here, reseal

from pico_conformance import Fault, Hub
from pico_conformance.runs import add_checkpoint, write_run
from pico_schema import RevisionIndex, documents, layout, read_checkpoint, read_run
from pico_train.checkpoint import set_aside
from pico_train.checkpoint.set_aside import put_aside_after, put_step_aside
from pico_train.publish import commits, marking
from pico_train.publish.command import publish_run
from pico_train.publish.publisher import start_publisher
from pico_train.publish.queue import Queue, halt
from pico_train.publish.remote import Remote

WHY = "the run went on from step 12 under training.max_steps=40"
OLD = (14, 16, 20)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that came to step 20."""
    return write_run(tmp_path / "runs", steps=(0, 12, *OLD), n_samples=8)


@pytest.fixture
def published(hub: Hub, run: Path) -> Path:
    """The same, published; then it went on from step 12."""
    publish_here(run)
    del hub
    put_aside_after(run, 12, reason=WHY)
    lengthen(run, 40)
    return run


def lengthen(run: Path, max_steps: int) -> None:
    document = read_run(run)
    config = document.config | {"training": document.config["training"] | {"max_steps": max_steps}}
    documents.write(run / layout.RUN_MANIFEST, document.model_copy(update={"config": config}))


def index_of(hub: Hub, branch: str = "demo") -> RevisionIndex:
    return documents.parse(content(hub, branch)[layout.REVISIONS], RevisionIndex, where=branch)


def steps_of(index: RevisionIndex) -> tuple[list[int], list[int]]:
    """Steps of the run, and those that were set aside."""
    return [item.step for item in index.revisions], [item.step for item in index.set_aside]


def titles(hub: Hub, branch: str = "demo") -> list[str]:
    repository = hub.repository("models", REPO)
    return [row["title"] for row in repository.log(repository.resolve(branch))][::-1][1:]


def seal_anew(run: Path, step: int) -> str:
    """Arrive at a step with other weights; its digest."""
    add_checkpoint(run, step, n_samples=8)
    manifest = read_checkpoint(run / layout.checkpoint_dir(step))
    reseal(run, step, manifest.model_copy(update={"tokens_seen": manifest.tokens_seen + 1}))
    return digest_of(run, step)


def digest_of(run: Path, step: int) -> str:
    return next(entry.manifest_sha256 for entry in read_run(run).checkpoints if entry.step == step)


def take_back(run: Path, step: int) -> None:
    """The run arrives at the very same checkpoint, as its writer finds out."""
    [(copy, digest)] = set_aside.copies(run, step)
    target = set_aside.take_back(run, copy)
    manifest = read_checkpoint(target)
    entry = {"step": step, "tokens_seen": manifest.tokens_seen, "manifest_sha256": digest}
    document = read_run(run)
    lines = sorted([*(item.model_dump() for item in document.checkpoints), entry], key=lambda line: line["step"])
    changed = document.model_dump() | {"checkpoints": lines}
    documents.write(run / layout.RUN_MANIFEST, type(document).model_validate(changed))


def delete_tag(hub: Hub, step: int) -> None:
    hub.repository("models", REPO).delete(f"refs/tags/demo-step-{step}")


def test_the_branch_says_what_the_run_has_set_aside(hub: Hub, published: Path) -> None:
    before, tags = content(hub, "demo"), hub.repository("models", REPO).refs("refs/tags/")
    old = {item.step: item for item in index_of(hub).revisions}
    events = publish_here(published)
    assert [event["title"] for event in events if event["event"] == "marked"] == ["set aside: steps 14, 16, 20"]
    index = index_of(hub)
    assert steps_of(index) == ([0, 12], list(OLD))
    assert {item.reason for item in index.set_aside} == {WHY}
    commits_of = {row["name"]: row["targetCommit"] for row in tags}
    for item in index.set_aside:
        assert item.commit == commits_of[f"demo-step-{item.step}"]
        assert item.manifest_sha256 == old[item.step].manifest_sha256
    after = content(hub, "demo")
    assert {path for path in after if after[path] != before[path]} == {layout.REVISIONS, layout.CARD}
    assert set(after) == set(before) and hub.repository("models", REPO).refs("refs/tags/") == tags
    assert titles(hub)[-1] == "demo: set aside: steps 14, 16, 20"
    made = titles(hub), titles(hub, "main")
    assert not [event for event in publish_here(published) if event["event"] in ("marked", "described")]
    assert (titles(hub), titles(hub, "main")) == made, "once is enough"


def test_cards_count_the_run_alone_and_main_sets_aside_what_the_branch_does(hub: Hub, published: Path) -> None:
    assert "5 so far, up to step 20" in content(hub, "main")[layout.CARD].decode()
    publish_here(published)
    for branch in ("demo", "main"):
        card = content(hub, branch)[layout.CARD].decode()
        assert "2 so far, up to step 12" in card and 'revision="demo-step-12"' in card
        assert "| `demo-step-12` |" in card and "demo-step-14" not in card and "demo-step-20" not in card
        assert "Not counted: 3 published checkpoints that the run has set aside since" in card
        assert steps_of(index_of(hub, branch)) == ([0, 12], list(OLD))
    for step in range(14, 41, 13):  # 14, 27, 40; the tag of 14 is free by then
        delete_tag(hub, 14) if step == 14 else None
        seal_anew(published, step)
    publish_here(published)
    assert steps_of(index_of(hub, "main")) == ([0, 12, 14, 27, 40], list(OLD))
    assert "5 so far, up to step 40" in content(hub, "main")[layout.CARD].decode()


def test_a_card_of_a_persons_own_stays_while_the_index_of_main_is_told(hub: Hub, published: Path) -> None:
    hub.commit_outside("models", REPO, "main", layout.CARD, b"my own")
    publish_here(published)
    assert content(hub, "main")[layout.CARD] == b"my own"
    assert steps_of(index_of(hub, "main")) == ([0, 12], list(OLD))


def test_what_is_taken_back_is_the_runs_again(hub: Hub, published: Path) -> None:
    whole = index_of(hub)
    publish_here(published)
    for step in OLD:
        take_back(published, step)
    [kept] = set_aside.listed(published)
    with (published / layout.METRICS_LOG).open("ab") as log:
        log.write((kept.folder / layout.METRICS_LOG).read_bytes())
    set_aside.forget_repeated(published)
    assert set_aside.listed(published) == [], "nothing here says so any more"
    events = publish_here(published)
    assert [event["title"] for event in events if event["event"] == "marked"] == ["taken back: steps 14, 16, 20"]
    index = index_of(hub)
    assert index.set_aside == () and [item.manifest_sha256 for item in index.revisions] == [
        item.manifest_sha256 for item in whole.revisions
    ]
    assert all(item.commit for item in index.revisions)
    assert steps_of(index_of(hub, "main")) == ([0, 12, *OLD], [])
    assert len(hub.repository("models", REPO).refs("refs/tags/")) == 5


def test_a_step_done_again_is_refused_until_its_tag_is_deleted(hub: Hub, published: Path) -> None:
    old = index_of(hub).find(14)
    new = seal_anew(published, 14)
    report = publish_run(published, QUICK)
    assert old is not None and report.exit_code == 3
    assert report.error == (
        f"tag demo-step-14 of {REPO} names the step 14 that was published before the run set it aside ({WHY}), and "
        f"nothing that is published is rewritten: delete the tag (`hf repos tag delete {REPO} demo-step-14 --yes`, or "
        f"in Python `huggingface_hub.delete_tag('{REPO}', tag='demo-step-14')`), then `pico-train publish {published}` "
        "publishes the new one"
    )
    assert [row["state"] for row in report.rows] == ["done", "done", "refused"]
    delete_tag(hub, 14)
    assert publish_run(published, QUICK).exit_code == 0
    index = index_of(hub)
    assert steps_of(index) == ([0, 12, 14], list(OLD))
    found = index.find(14)
    assert found is not None and found.manifest_sha256 == new
    assert index.set_aside[0].manifest_sha256 == old.manifest_sha256
    repository = hub.repository("models", REPO)
    assert repository.resolve("demo-step-14") == repository.resolve("demo") != index.set_aside[0].commit


def test_between_two_trajectories_the_tag_decides(hub: Hub, published: Path) -> None:
    """Step 14 done again and published; then the first of the two is taken back."""
    delete_tag(hub, 14)
    seal_anew(published, 14)
    publish_here(published)
    put_step_aside(published, 14, reason="step 14 has other weights than the run arrives at")
    old = index_of(hub).set_aside[0]
    copy = next(copy for copy, digest in set_aside.copies(published, 14) if digest == old.manifest_sha256)
    set_aside.take_back(published, copy)
    events = publish_here(published)
    assert ["delete the tag" in event["error"] for event in events if event["event"] == "refused"] == [True]
    assert steps_of(index_of(hub)) == ([0, 12], [14, 14, 16, 20])
    delete_tag(hub, 14)
    queue = Queue(published, REPO)
    queue.save(queue.record(14).model_copy(update={"state": "pending"}))
    publish_here(published)
    assert steps_of(index_of(hub)) == ([0, 12, 14], [14, 16, 20])
    repository = hub.repository("models", REPO)
    assert repository.resolve("demo-step-14") == old.commit, "its commit was there all along"
    assert [record.state for record in queue.records()] == ["done"] * 3


def test_an_attempt_by_itself_brings_the_index_along(hub: Hub, published: Path) -> None:
    """While a run trains: what was set aside or taken back since the publisher began travels with the next step."""
    remote = Remote(REPO, timeout=60.0)

    def publish_one(step: int) -> commits.Published:
        return commits.publish_step(remote, published, step, QUICK, before_commit=lambda _: None)

    seal_anew(published, 24)
    publish_one(24)
    assert steps_of(index_of(hub)) == ([0, 12, 24], list(OLD)) and titles(hub)[-1] == "demo step 24"
    take_back(published, 16)
    delete_tag(hub, 16)
    publish_one(16)
    assert steps_of(index_of(hub)) == ([0, 12, 16, 24], [14, 20]) and titles(hub)[-1] == "demo: taken back: step 16"
    assert hub.repository("models", REPO).resolve("demo-step-16") == index_of(hub).find(16).commit  # type: ignore[union-attr]


def test_a_training_run_tells_the_branch_at_its_beginning_and_its_end(hub: Hub, published: Path) -> None:
    publisher = start_publisher(published, QUICK)
    publisher.close(30)
    assert steps_of(index_of(hub)) == ([0, 12], list(OLD))
    events: list[Any] = []
    publisher = start_publisher(published, QUICK, warn=events.append)
    for step in OLD:
        take_back(published, step)
        publisher.enqueue(step)
    status = publisher.close(30)
    assert steps_of(index_of(hub)) == ([0, 12, *OLD], []) and status.published == 5 and events == []


def test_a_damaged_checkpoint_is_the_runs_still_where_it_is_published(hub: Hub, run: Path) -> None:
    publish_here(run)
    put_step_aside(run, 14, reason="its damage was accepted", damaged=True)
    publish_here(run)
    assert steps_of(index_of(hub)) == ([0, 12, *OLD], [])
    seal_anew(run, 14)
    publish_here(run)
    assert steps_of(index_of(hub)) == ([0, 12, 16, 20], [14]), "unless the run has another"


def test_evaluations_of_what_was_set_aside_go_with_the_next_checkpoint(hub: Hub, run: Path) -> None:
    for step in (12, 14):
        path = run / layout.evaluation_file(step)
        path.parent.mkdir(exist_ok=True)
        documents.write(path, evaluation_of(run, step))
    publish_here(run)
    put_aside_after(run, 12, reason=WHY)
    publish_here(run)
    seal_anew(run, 18)
    publish_here(run)
    there = content(hub, "demo")
    assert layout.evaluation_file(12) in there and layout.evaluation_file(14) not in there
    assert [entry["step"] for entry in json.loads(there[layout.RUN_MANIFEST])["checkpoints"]] == [0, 12, 18]


def test_where_nothing_of_the_run_is_left_its_first_new_checkpoint_brings_the_index(hub: Hub, run: Path) -> None:
    publish_here(run)
    put_aside_after(run, None, reason="the run began anew")
    publish_here(run)
    assert steps_of(index_of(hub)) == ([0, 12, *OLD], []), "a branch without a run could not be read"
    seal_anew(run, 2)
    publish_here(run)
    assert steps_of(index_of(hub)) == ([2], [0, 12, *OLD])


def test_a_dry_run_says_what_would_be_marked_and_refused(hub: Hub, published: Path) -> None:
    seal_anew(published, 14)
    seal_anew(published, 24)
    mark, said = hub.log.mark(), list[str]()
    report = publish_run(published, QUICK, dry_run=True, progress=said.append)
    assert hub.log.count("POST|PUT|DELETE", since=mark) == 0
    assert "set aside: steps 14, 16, 20: so would demo say" in said
    assert any("hf repos tag delete" in line for line in said)
    assert [row["step"] for row in report.rows] == [24] and report.line.startswith("2 commits to ")
    publish_run(published, QUICK, progress=said.append)
    assert any(line.startswith("set aside: steps 14, 16, 20: so says demo now, commit ") for line in said)
    assert "so would" not in publish_run(published, QUICK, dry_run=True, progress=said.append).line


FAULTS = {
    "the answer is lost": Fault("POST .*/commit/demo", "lost"),
    "refused for a moment": Fault("POST .*/commit/demo", status=503),
    "another commit came between": Fault("POST .*/commit/demo", "race"),
    "reading fails": Fault("GET .*/(tree|resolve|refs)", status=500, times=3),
    "an answer is damaged": Fault("GET .*/revisions.json", "flip", at=0.5),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_failure_is_followed_by_another_attempt(hub: Hub, published: Path, fault: Fault) -> None:
    hub.faults.add(fault)
    publish_here(published)
    hub.faults.clear()
    assert steps_of(index_of(hub)) == ([0, 12], list(OLD))
    assert titles(hub).count("demo: set aside: steps 14, 16, 20") == 1


def test_whatever_is_interrupted_is_taken_up_by_the_next(
    hub: Hub, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The publisher dies at each of its calls in turn, and after the commit took effect: it is marked once."""

    class Killed(BaseException):
        pass

    calls = ("refs", "tree", "read", "commit")
    for name, after in itertools.product(calls, (False, True)):
        real: Callable[..., Any] = getattr(Remote, name)

        def dying(*args: Any, real: Callable[..., Any] = real, after: bool = after) -> Any:
            if after:
                real(*args)
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(Remote, name, dying)
            with pytest.raises(Killed):
                marking.mark(Remote(REPO, timeout=60.0), published, QUICK, before_commit=lambda _: None)
    assert titles(hub)[-1] == "demo: set aside: steps 14, 16, 20", "the last to die had made its commit"
    publish_here(published)
    assert titles(hub).count("demo: set aside: steps 14, 16, 20") == 1
    assert steps_of(index_of(hub)) == ([0, 12], list(OLD))


def test_the_commit_is_counted_and_the_limit_kept(hub: Hub, published: Path) -> None:
    queue = Queue(published, REPO)
    before = len(queue._commit_times())
    publish_here(published)
    assert len(queue._commit_times()) == before + 2, "the branch's and main's"
    assert len(titles(hub)) == 6


def test_a_run_that_is_halted_tells_nothing(hub: Hub, published: Path) -> None:
    halt(published, 19, "loss is nan")
    publish_here(published)
    assert steps_of(index_of(hub)) == ([0, 12, *OLD], [])
    seal_anew(published, 22)
    publish_here(published)
    assert steps_of(index_of(hub)) == ([0, 12, 22], list(OLD))


def test_a_note_that_cannot_be_read_is_one_sentence(hub: Hub, published: Path) -> None:
    (set_aside.root(published) / "0001" / layout.SET_ASIDE_NOTE).write_text("{")
    errors = [event["error"] for event in publish_here(published) if event["event"] == "refused"]
    assert len(errors) == 1 and "note.json: cannot be read" in errors[0]
    assert steps_of(index_of(hub)) == ([0, 12, *OLD], [])
