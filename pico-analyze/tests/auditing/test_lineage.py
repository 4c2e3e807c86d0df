"""Forks: whether they begin with their parent's weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from pico_analyze.auditing.audit import audit_store
from pico_analyze.auditing.finding import Finding
from pico_analyze.output import listing
from pico_analyze.output.report.cards import card
from pico_analyze.stores.opening import ReadOptions, open_store
from pico_conformance import Hub
from pico_conformance.published import put_run
from pico_conformance.runs import write_run
from pico_schema import CheckpointEntry, Parent, documents, layout
from pico_schema.digests import sha256_file


def fork(trunk: Path, root: Path, step: int, steps: tuple[int, ...], **changes: Any) -> Path:
    """A run whose first checkpoint holds the weights of a trunk's."""
    run_dir = write_run(root, name="fork", steps=steps, seed=7, run_id="f" * 32)
    there, here = (each / layout.checkpoint_dir(step) for each in (trunk, run_dir))
    run = documents.read_run(run_dir)
    if here.is_dir():
        shutil.copyfile(there / layout.WEIGHTS, here / layout.WEIGHTS)
        theirs, own = documents.read_checkpoint(there), documents.read_checkpoint(here)
        files = {**own.files, layout.WEIGHTS: theirs.files[layout.WEIGHTS]}
        changed = own.model_copy(update={"weights_sha256": theirs.weights_sha256, "files": files})
        documents.write(here / layout.MANIFEST, changed)
        entry = CheckpointEntry(
            step=step, tokens_seen=own.tokens_seen, manifest_sha256=sha256_file(here / layout.MANIFEST)
        )
        run = run.with_checkpoint(entry)
    said = {
        "run_id": documents.read_run(trunk).id,
        "run_name": "trunk",
        "step": step,
        "manifest_sha256": sha256_file(there / layout.MANIFEST),
        "location": str(trunk),
        "optimizer": "kept",
        "data": "continued",
    }
    parent = Parent.model_validate(said | changes)
    documents.write(run_dir / layout.RUN_MANIFEST, run.model_copy(update={"parent": parent}))
    return run_dir


@pytest.fixture
def trunk(tmp_path: Path) -> Path:
    return write_run(tmp_path, name="trunk", steps=(0, 1, 2))


def lineage_of(run_dir: Path, options: ReadOptions | None = None) -> list[Finding]:
    audit = audit_store(open_store(run_dir), options=options)
    assert "lineage" in audit.checks
    return [one for one in audit.findings if one.check == "lineage"]


def test_a_fork_that_begins_with_its_parent_s_weights_is_sound(trunk: Path, tmp_path: Path) -> None:
    run_dir = fork(trunk, tmp_path, 2, (2, 3, 4))
    assert lineage_of(run_dir) == []
    store = open_store(run_dir)
    shown = listing.text(store, listing.records(store))
    assert f"forked from trunk@2 ({trunk}): kept optimizer, data continued" in shown


def test_other_weights_than_the_parent_s_are_an_error(trunk: Path, tmp_path: Path) -> None:
    run_dir = fork(trunk, tmp_path, 2, (2, 3))
    write_run(tmp_path / "x", name="fork", steps=(2, 3), seed=7, run_id="f" * 32)
    shutil.rmtree(run_dir / layout.checkpoint_dir(2))
    shutil.copytree(tmp_path / "x" / "fork" / layout.checkpoint_dir(2), run_dir / layout.checkpoint_dir(2))
    entry = CheckpointEntry(
        step=2, tokens_seen=0, manifest_sha256=sha256_file(run_dir / layout.checkpoint_dir(2) / layout.MANIFEST)
    )
    documents.write(run_dir / layout.RUN_MANIFEST, documents.read_run(run_dir).with_checkpoint(entry))
    [found] = lineage_of(run_dir)
    assert (found.severity, found.step) == ("error", 2)
    assert "does not hold the weights of trunk@2, from which it was forked" in found.finding


def test_a_parent_that_is_gone_or_has_changed_is_a_note(trunk: Path, tmp_path: Path) -> None:
    run_dir = fork(trunk, tmp_path, 2, (2, 3))
    manifest = trunk / layout.checkpoint_dir(2) / layout.MANIFEST
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    [found] = lineage_of(run_dir)
    assert found.severity == "note" and f"trunk@2 is not at {trunk}" in found.finding
    shutil.rmtree(trunk)
    [found] = lineage_of(run_dir)
    assert found.severity == "note"


def test_steps_before_the_fork_and_a_first_step_that_is_missing_are_told(trunk: Path, tmp_path: Path) -> None:
    [found] = lineage_of(fork(trunk, tmp_path / "a", 2, (1, 2, 3)))
    assert found.severity == "error" and "step 1 lies before step 2" in found.finding
    [found] = lineage_of(fork(trunk, tmp_path / "b", 2, (3, 4)))
    assert found.severity == "warning" and "step 2, with which it was forked from trunk, is missing" in found.finding


def test_a_parent_on_the_hub_is_compared_with(trunk: Path, tmp_path: Path, hub: Hub) -> None:
    commits = put_run(hub, trunk, "org/trunks")
    options = ReadOptions(cache_dir=tmp_path / "cache")

    def found(root: Path, name: str = "x", **changes: Any) -> list[Finding]:
        run_dir = fork(trunk, root / name, 2, (2, 3), location="hf://org/trunks@trunk", **changes)
        return lineage_of(run_dir, options)

    assert len(commits) == 3 and found(tmp_path, "same") == []
    [changed] = found(tmp_path, "changed", manifest_sha256="0" * 64)
    assert changed.severity == "note" and "trunk@2 is not at hf://org/trunks@trunk" in changed.finding
    [other_run] = found(tmp_path, "run", run_id="e" * 32)
    assert other_run.severity == "note"
    before = hub.log.mark()
    offline = fork(trunk, tmp_path / "offline", 2, (2, 3), location="hf://org/trunks@trunk")
    [unknown] = lineage_of(offline, ReadOptions(offline=True, cache_dir=tmp_path / "empty"))
    assert unknown.severity == "note" and hub.log.count(since=before) == 0
    first = fork(trunk, tmp_path / "weights", 2, (2, 3), location="hf://org/trunks@trunk")
    own = write_run(tmp_path / "z", name="fork", steps=(2, 3), seed=7, run_id="f" * 32)
    shutil.rmtree(first / layout.checkpoint_dir(2))
    shutil.copytree(own / layout.checkpoint_dir(2), first / layout.checkpoint_dir(2))
    entry = CheckpointEntry(
        step=2, tokens_seen=0, manifest_sha256=sha256_file(first / layout.checkpoint_dir(2) / layout.MANIFEST)
    )
    documents.write(first / layout.RUN_MANIFEST, documents.read_run(first).with_checkpoint(entry))
    [wrong] = lineage_of(first, options)
    assert wrong.severity == "error" and "does not hold the weights of trunk@2" in wrong.finding


def test_the_report_tells_where_a_run_comes_from(trunk: Path, tmp_path: Path) -> None:
    facts = dict(card(open_store(fork(trunk, tmp_path, 2, (2, 3))))["facts"])
    assert ["forked from", "trunk@2"] in facts["lineage"] and ["at", str(trunk)] in facts["lineage"]
    assert "lineage" not in dict(card(open_store(trunk))["facts"])


def test_a_run_that_is_no_fork_has_no_lineage_to_check(trunk: Path) -> None:
    assert "lineage" not in audit_store(open_store(trunk)).checks
