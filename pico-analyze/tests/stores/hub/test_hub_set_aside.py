"""Published steps that the run has set aside since: no steps of it, named by `list`, and to be opened one by one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from published import REPO

from pico_analyze.errors import DataError
from pico_analyze.output import listing
from pico_analyze.stores.base import SetsAside, Store
from pico_analyze.stores.opening import ReadOptions
from pico_analyze.stores.run_names import open_named
from pico_analyze.stores.set_aside import SetAside
from pico_conformance import Hub
from pico_conformance.published import put_files
from pico_schema import CheckpointManifest, RevisionIndex, documents, layout

WHY = "the run went on from step 1\nunder seed=3"
SAID = "the run went on from step 1 under seed=3"
Open = Callable[..., Store]


def index_of(hub: Hub, commit: str) -> RevisionIndex:
    repository = hub.repository("models", REPO)
    content = repository.blob(repository.find(commit, layout.REVISIONS)["oid"])
    return documents.parse(content, RevisionIndex, where="the test")


@pytest.fixture
def apart(hub: Hub, commits: list[str]) -> list[str]:
    """Steps 2 and 4 stand apart; the manifest at the head is still that of step 4. The commits by step."""
    index = index_of(hub, commits[-1]).with_commits({4: commits[-1]}).with_set_aside({2: WHY, 4: WHY})
    put_files(hub, REPO, "demo", {layout.REVISIONS: documents.dump(index)})
    return commits


def publish_again(hub: Hub, commits: list[str], step: int, source: int) -> str:
    """Another checkpoint of a step (one of `source`, as it is) under its tag; returns the commit."""
    repository = hub.repository("models", REPO)
    found = repository.find(commits[source], layout.MANIFEST)
    manifest = documents.parse(repository.blob(found["oid"]), CheckpointManifest, where="x")
    manifest = manifest.model_copy(update={"tokens_seen": manifest.tokens_seen + 1})
    raw = documents.dump(manifest)
    index = index_of(hub, repository.resolve("demo")).with_checkpoint(manifest, hashlib.sha256(raw).hexdigest())
    commit = put_files(hub, REPO, "demo", {layout.MANIFEST: raw, layout.REVISIONS: documents.dump(index)})
    repository.delete(f"refs/tags/demo-step-{step}")
    repository.move(f"refs/tags/demo-step-{step}", commit, None)
    return commit


def test_only_the_runs_own_steps_are_steps(apart: list[str], open_run: Open) -> None:
    store = open_run()
    assert [info.step for info in store.steps()] == [0, 1] == list(store.evaluations())
    assert [store.provenance(step)["commit"] for step in (0, 1)] == apart[:2]
    assert store.unusable() == ()
    assert isinstance(store, SetsAside) and store.set_aside() == (SetAside((2, 4), SAID),)


@pytest.mark.usefixtures("apart")
def test_list_names_them(open_run: Open) -> None:
    store = open_run()
    found = listing.records(store)
    assert [(row["step"], row["set_aside"]) for row in found] == [(0, False), (1, False), (2, True), (4, True)]
    text = listing.text(store, found)
    assert text.splitlines()[-1] == f"set aside: steps 2, 4 ({SAID})" and "2 checkpoints" in text


@pytest.mark.parametrize("address", [f"hf://{REPO}@demo-step-4", f"hf://{REPO}@{{commit}}:step-4"])
def test_one_of_them_is_opened_by_its_tag_or_commit(apart: list[str], open_run: Open, address: str) -> None:
    store = open_run(address.format(commit=apart[-1]))
    assert [info.step for info in store.steps()] == [4] and store.provenance(4)["commit"] == apart[-1]
    assert store.read(4, "val", "activations", "layers.0.attn.v").any()
    assert isinstance(store, SetsAside) and store.set_aside() == ()


def test_asked_of_the_run_one_of_them_is_refused_with_its_place(hub: Hub, apart: list[str], open_run: Open) -> None:
    head = hub.repository("models", REPO).resolve("demo")
    for revision in (head, "demo"):  # though the branch's tag of that step is still there
        with pytest.raises(DataError, match=rf"step 2 .* is no part of the run.*hf://{REPO}@{apart[2]}:step-2"):
            open_run(f"hf://{REPO}@{revision}:step-2")


def test_a_step_that_was_published_again_is_that_of_the_new_commit(
    hub: Hub, apart: list[str], open_run: Open, options: ReadOptions
) -> None:
    commit = publish_again(hub, apart, 2, 2)
    store = open_run()
    assert [info.step for info in store.steps()] == [0, 1, 2] and store.unusable() == ()
    assert store.provenance(2)["commit"] == commit != apart[2]
    assert isinstance(store, SetsAside) and store.set_aside() == (SetAside((2, 4), SAID),)
    assert open_run(f"hf://{REPO}@{apart[2]}:step-2").provenance(2)["commit"] == apart[2]
    assert [info.step for info in open_named(f"hf://{REPO}@demo@last", options).steps()] == [2]
