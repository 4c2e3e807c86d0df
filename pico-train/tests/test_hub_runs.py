"""What a broken or hostile repository may hold where a run should be: one sentence, and nothing of it gets a place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support.publishing import REPO, content

from pico_conformance import Fault, Hub
from pico_conformance.published import put_files, put_run
from pico_conformance.runs import write_run
from pico_schema import RevisionIndex, documents, layout
from pico_train.addresses import open_run
from pico_train.errors import CheckpointError, UsageError

Change = Callable[[dict[str, bytes]], dict[str, bytes]]


@pytest.fixture
def hub_mode() -> str:
    return "lfs"


@pytest.fixture
def cache(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache, empty; a run with steps 0, 1, 2 is on the Hub."""
    monkeypatch.setenv("PICO_CACHE", str(tmp_path / "cache"))
    put_run(hub, write_run(tmp_path / "runs"), REPO)
    return tmp_path / "cache"


UNLISTED = [{"step": 1, "tokens_seen": 64, "manifest_sha256": "0" * 64}]


def edited(document: str, /, **changes: object) -> Change:
    """A document with some fields changed."""
    return lambda there: {document: json.dumps({**json.loads(there[document]), **changes}).encode()}


def replaced(name: str, raw: bytes) -> Change:
    return lambda _: {name: raw}


def flipped(name: str) -> Change:
    """One bit in the middle of a file."""

    def change(there: dict[str, bytes]) -> dict[str, bytes]:
        raw = bytearray(there[name])
        raw[len(raw) // 2] ^= 1
        return {name: bytes(raw)}

    return change


def unsafe(there: dict[str, bytes]) -> dict[str, bytes]:
    """A manifest that lists a path outside of the checkpoint."""
    manifest = json.loads(there[layout.MANIFEST])
    manifest["files"]["../../escaped"] = manifest["files"][layout.WEIGHTS]
    return {layout.MANIFEST: json.dumps(manifest).encode(), "escaped": b"x"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (replaced(layout.REVISIONS, b"[" * 100_000), "not valid JSON"),
        (replaced(layout.REVISIONS, b'{"revisions": ' + b"9" * 5000 + b"}"), layout.REVISIONS),
        (replaced(layout.REVISIONS, b"/etc/passwd"), "not valid JSON"),  # how git keeps a symbolic link
        (edited(layout.REVISIONS, revisions=[]), "lists no checkpoint"),
        (edited(layout.REVISIONS, run_id="f" * 32), "that of another run"),
        (edited(layout.REVISIONS, run_name="other"), "that of another run"),
        (edited(layout.RUN_MANIFEST, name="../../escaped"), "name"),
        (edited(layout.RUN_MANIFEST, checkpoints=UNLISTED), "disagree"),
        (edited(layout.RUN_MANIFEST, seed=int("9" * 4000)), layout.RUN_MANIFEST),
        (edited(layout.MANIFEST, step=10**30), "beyond 64 bits"),
        (edited(layout.MANIFEST, tokens_seen=1), "not the checkpoint of step 2 that revisions.json lists"),
        (edited(layout.MANIFEST, metrics={"loss": int("9" * 400)}), layout.MANIFEST),
        (flipped(layout.VALIDATION_ROWS), "validation.parquet is not the file that was published"),
        (flipped(layout.WEIGHTS), "model.safetensors is not the file that was published"),
        (flipped("captures/val.safetensors"), "val.safetensors is not the file that was published"),
        (replaced(layout.MODEL_CONFIG, b"{}"), "config.json is not the file that was published"),
        (replaced("training_state/state.pt", b"evil"), "state.pt is not the file that was published"),
        (unsafe, r"\.\."),
    ],
)  # fmt: skip
def test_what_is_not_what_was_published_is_one_sentence(hub: Hub, cache: Path, change: Change, says: str) -> None:
    put_files(hub, REPO, "demo", change(content(hub, "demo")))
    with pytest.raises(CheckpointError, match=says) as caught:
        open_run(f"hf://{REPO}@demo@last", "everything")
    assert caught.value.exit_code == 3 and "\n" not in str(caught.value) and len(str(caught.value)) < 600
    assert not list(cache.parent.rglob("escaped")) and not list(
        cache.rglob("runs/*/*/demo/checkpoints/*/model.safetensors")
    )


def test_a_bit_that_flipped_on_its_way_is_asked_for_again(hub: Hub, cache: Path) -> None:
    del cache
    hub.faults.add(Fault("GET .*_(cdn|lfs)/", "flip", at=0.5))
    found = open_run(f"hf://{REPO}@demo@2", "model")
    assert not hub.faults.pending
    brought = (found.run_dir / layout.checkpoint_dir(2) / layout.WEIGHTS).read_bytes()
    assert brought == content(hub, "demo")[layout.WEIGHTS]


def test_a_tag_that_was_moved_gives_no_other_checkpoint(hub: Hub, cache: Path) -> None:
    del cache
    repository = hub.repository("models", REPO)
    other = repository.resolve("demo-step-0")
    repository.delete("refs/tags/demo-step-1")
    repository.move("refs/tags/demo-step-1", other, None)
    with pytest.raises(CheckpointError, match=r"not the checkpoint of step 1 that revisions\.json lists: ask whoever"):
        open_run(f"hf://{REPO}@demo@1", "model")
    assert open_run(f"hf://{REPO}@demo@2", "model").step == 2


def test_what_the_run_has_set_aside_does_not_come(hub: Hub, cache: Path) -> None:
    """The branch's manifest and run.json are those of step 2, which stands apart since; the tag still opens it."""
    del cache
    index = documents.parse(content(hub, "demo")[layout.REVISIONS], RevisionIndex, where="the test")
    repository = hub.repository("models", REPO)
    index = index.with_commits({2: repository.resolve("demo-step-2")}).with_set_aside({2: "it went on from step 1"})
    evaluation = b'{"an evaluation": "of step 2"}'
    put_files(hub, REPO, "demo", {layout.REVISIONS: documents.dump(index), layout.evaluation_file(2): evaluation})
    found = open_run(f"hf://{REPO}@demo", "everything").run_dir
    assert [step for step, _ in documents.checkpoint_dirs(found)] == [0, 1]
    assert [entry.step for entry in documents.read_run(found).checkpoints] == [0, 1]
    assert not list(found.glob("evaluations/*"))
    assert open_run(f"hf://{REPO}@demo@last", "model").step == 1
    with pytest.raises(UsageError, match="has no step 2 on the Hub: it has 0, 1"):
        open_run(f"hf://{REPO}@demo@2", "model")
    assert open_run(f"hf://{REPO}@demo-step-2", "model").step == 2


def test_a_file_that_the_manifest_lists_and_the_repository_lacks(hub: Hub, cache: Path) -> None:
    del cache
    repository = hub.repository("models", REPO)
    for path in (layout.WEIGHTS, "training_state/state.pt"):
        head = repository.resolve("demo")
        repository.write("demo", head, "without it", [(path, None)], hub.user)
        if path == layout.WEIGHTS:
            with pytest.raises(CheckpointError, match=r"it has no model\.safetensors, which its manifest lists"):
                open_run(f"hf://{REPO}@demo@2", "everything")
            put_files(hub, REPO, "demo", {path: content(hub, "demo-step-2")[path]})
    assert open_run(f"hf://{REPO}@demo@2", "everything").step == 2, "a training state may be gone"


def test_a_repository_that_is_not_there_names_the_hub_in_use(hub: Hub, cache: Path) -> None:
    del cache
    with pytest.raises(CheckpointError, match=f"no such repository on {hub.url}, or no access"):
        open_run("hf://tester/nothing")
