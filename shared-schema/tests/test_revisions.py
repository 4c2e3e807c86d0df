"""The index of published revisions: one line per checkpoint, what they have in common written once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import checkpoint_fields
from pydantic import ValidationError

from pico_schema import CheckpointManifest, DocumentError, RevisionIndex, documents

RUN_ID = "0" * 32


def index_of(*manifests: CheckpointManifest) -> RevisionIndex:
    index = RevisionIndex(run_id=RUN_ID, run_name="demo")
    for manifest in manifests:
        index = index.with_checkpoint(manifest, f"{manifest.step:064x}", results={"task.loss": float(manifest.step)})
    return index


@pytest.fixture
def manifests() -> list[CheckpointManifest]:
    capture = {
        "split": "val",
        "file": "captures/val.safetensors",
        "dtype": "float32",
        "activations": ["layers.0.attn.v", "layers.1.attn.v"],
        "gradients": ["layers.0.attn.v"],
        "n_rows": 4,
        "positions": [3, 7],
        "samples_sha256": "1" * 64,
    }
    files = {"model.safetensors": b"weights", "captures/val.safetensors": b"captures"}
    weights = {"embed": "model.embed_tokens.weight", "head": "lm_head.weight"}
    fields = checkpoint_fields(files, captures=[capture], weights=weights, metrics={"train_loss": 4.5})
    manifest = CheckpointManifest.model_validate(fields)
    return [manifest.model_copy(update={"step": step, "tokens_seen": step * 10}) for step in (0, 1, 2)]


def test_it_says_what_the_manifests_say(manifests: list[CheckpointManifest]) -> None:
    index = index_of(*manifests)
    assert [revision.step for revision in index.revisions] == [0, 1, 2]
    second = index.find(1)
    assert second is not None and second.tokens_seen == 10 and second.size == manifests[1].size
    assert second.results == {"task.loss": 1.0} and second.metrics == manifests[1].metrics
    shape = index.shapes[second.shape]
    assert shape.weights == tuple(manifests[1].weights)
    for capture in manifests[1].captures:
        assert shape.captures[capture.split].activations == capture.activations
        assert shape.captures[capture.split].n_samples == capture.n_samples
        assert second.samples_sha256[capture.split] == capture.samples_sha256
    assert index.find(3) is None


def test_what_checkpoints_have_in_common_is_written_once(manifests: list[CheckpointManifest]) -> None:
    bare = manifests[2].model_copy(update={"captures": ()})
    index = index_of(*manifests[:2], bare)
    assert [revision.shape for revision in index.revisions] == [0, 0, 1]
    lines = [len(json.dumps(row)) for row in json.loads(documents.dump(index))["revisions"]]
    assert max(lines) < 1000


def test_the_order_of_publishing_does_not_matter(manifests: list[CheckpointManifest]) -> None:
    assert index_of(*manifests).revisions == index_of(*manifests[::-1]).revisions


def test_a_step_published_again_replaces_its_line(manifests: list[CheckpointManifest]) -> None:
    index = index_of(*manifests).with_checkpoint(manifests[1], "f" * 64)
    assert len(index.revisions) == 3
    found = index.find(1)
    assert found is not None and found.manifest_sha256 == "f" * 64


def test_commits_are_filled_in_and_never_changed(manifests: list[CheckpointManifest]) -> None:
    index = index_of(*manifests).with_commits({0: "a" * 40, 1: "b" * 40})
    assert [revision.commit for revision in index.revisions] == ["a" * 40, "b" * 40, None]
    assert index.with_commits({0: "c" * 40}).revisions[0].commit == "a" * 40


@pytest.fixture
def apart(manifests: list[CheckpointManifest]) -> RevisionIndex:
    """Steps 1 and 2 were published and set aside, and 1 was published again."""
    index = index_of(*manifests).with_commits({step: f"{step}" * 40 for step in (0, 1, 2)})
    index = index.with_set_aside({1: "it went on from step 0", 2: "it went on from step 0"})
    return index.with_checkpoint(manifests[1], "f" * 64)


def test_what_was_set_aside_is_no_revision_and_keeps_what_is_known_of_it(
    manifests: list[CheckpointManifest], apart: RevisionIndex
) -> None:
    whole = index_of(*manifests).with_commits({step: f"{step}" * 40 for step in (0, 1, 2)})
    assert [(row.step, row.manifest_sha256) for row in apart.revisions] == [(0, f"{0:064x}"), (1, "f" * 64)]
    assert [row.model_dump(exclude={"reason"}) for row in apart.set_aside] == [
        row.model_dump() for row in whole.revisions[1:]
    ]
    assert {row.reason for row in apart.set_aside} == {"it went on from step 0"}
    assert documents.parse(documents.dump(apart), RevisionIndex, where="x") == apart
    assert whole.with_set_aside({}) == whole == whole.with_set_aside({7: "no such step"})
    assert len(whole.with_set_aside({1: "x" * 2000}).set_aside[0].reason) == 1000


def test_without_its_commit_nothing_is_set_aside(manifests: list[CheckpointManifest]) -> None:
    with pytest.raises(ValueError, match="commit"):
        index_of(*manifests).with_set_aside({1: "why"})


def test_what_is_taken_back_is_a_revision_as_it_was(manifests: list[CheckpointManifest], apart: RevisionIndex) -> None:
    whole = index_of(*manifests).with_commits({step: f"{step}" * 40 for step in (0, 1, 2)})
    again = apart.with_taken_back({2: f"{2:064x}"})
    assert again.find(2) == whole.find(2) and type(again.find(2)) is type(whole.find(2))
    assert [row.step for row in again.set_aside] == [1]
    assert apart.with_taken_back({1: f"{1:064x}"}) == apart, "another checkpoint of the step is listed"
    assert apart.with_taken_back({2: "a" * 64}) == apart == apart.with_taken_back({0: f"{0:064x}"})
    assert whole.with_set_aside({1: "a", 2: "b"}).with_taken_back({1: f"{1:064x}", 2: f"{2:064x}"}) == whole


def test_a_step_is_set_aside_as_often_as_it_was_published(
    manifests: list[CheckpointManifest], apart: RevisionIndex
) -> None:
    twice = apart.with_commits({1: "a" * 40}).with_set_aside({1: "again"})
    assert [(row.step, row.reason) for row in twice.set_aside] == [
        (1, "it went on from step 0"),
        (1, "again"),
        (2, "it went on from step 0"),
    ]
    assert documents.parse(documents.dump(twice), RevisionIndex, where="x") == twice
    published = twice.with_checkpoint(manifests[1], "f" * 64)
    assert [row.manifest_sha256 for row in published.set_aside] == [f"{1:064x}", f"{2:064x}"], "published once more"


def test_a_reader_that_does_not_know_the_field_lists_the_run_alone(apart: RevisionIndex) -> None:
    raw = json.loads(documents.dump(apart))
    del raw["set_aside"]
    older = documents.parse(json.dumps(raw).encode(), RevisionIndex, where="x")
    assert older.revisions == apart.revisions and older.set_aside == ()


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("rows[::-1]", "set aside are not in ascending order"),
        ("rows + rows[-1:]", "listed twice, or as a revision too"),
        ("[{**rows[0], 'manifest_sha256': 'f' * 64}]", "listed twice, or as a revision too"),
        ("[{**rows[0], 'shape': 9}]", "a shape that is not listed"),
        ("[{**rows[0], 'commit': None}]", "commit"),
        ("[{**rows[0], 'reason': ''}]", "reason"),
    ],
)
def test_what_is_said_to_be_set_aside_does_not_contradict_itself(apart: RevisionIndex, rows: str, says: str) -> None:
    raw = json.loads(documents.dump(apart))
    raw["set_aside"] = eval(rows, {"rows": raw["set_aside"]})
    with pytest.raises(DocumentError, match=says):
        documents.parse(json.dumps(raw).encode(), RevisionIndex, where="the test")


def test_it_survives_being_written_and_read(manifests: list[CheckpointManifest]) -> None:
    index = index_of(*manifests)
    assert documents.parse(documents.dump(index), RevisionIndex, where="x") == index


@pytest.mark.parametrize(
    "change",
    [
        {"revisions": "rows[::-1]"},
        {"shapes": []},
        {"run_name": "../x"},
        {"run_id": "x"},
    ],
)
def test_an_index_that_contradicts_itself_is_refused(
    manifests: list[CheckpointManifest], change: dict[str, Any]
) -> None:
    raw = json.loads(documents.dump(index_of(*manifests)))
    if change.get("revisions") == "rows[::-1]":
        change = {"revisions": raw["revisions"][::-1]}
    with pytest.raises(DocumentError, match="the test"):
        documents.parse(json.dumps({**raw, **change}).encode(), RevisionIndex, where="the test")


def test_a_commit_is_forty_hexadecimal_digits(manifests: list[CheckpointManifest]) -> None:
    raw = json.loads(documents.dump(index_of(*manifests)))
    raw["revisions"][0]["commit"] = "../../etc"
    with pytest.raises(ValidationError):
        RevisionIndex.model_validate(raw)
