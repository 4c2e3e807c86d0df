"""Results of checkpoints that are published already: one further commit, `revisions.json` knows, seals stay as they
are; and a sweep over a run on the Hub, which goes on where one before it stopped."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support.publishing import QUICK, REPO, content, evaluation_of, publish_here
from typer.testing import CliRunner

from pico_schema import RevisionIndex, documents, layout
from pico_train.cli.app import app
from pico_train.publish.command import push_results


@pytest.fixture
def published(repository, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run without results, on the Hub."""
    monkeypatch.setenv("PICO_CACHE", str(tmp_path / "cache"))
    shutil.rmtree(run / layout.EVALUATIONS, ignore_errors=True)
    publish_here(run)
    assert repository() is not None
    return run


def commits(branch: str) -> int:
    from huggingface_hub import HfApi

    return len(HfApi().list_repo_commits(REPO, revision=branch))


def test_results_travel_in_one_further_commit(hub, published):
    name = documents.read_run(published).name
    before, held = commits(name), content(hub, name)
    steps = [entry.step for entry in documents.read_run(published).checkpoints]
    for step in steps[:2]:
        (published / layout.EVALUATIONS).mkdir(exist_ok=True)
        documents.write(published / layout.evaluation_file(step), evaluation_of(published, step))
    assert push_results(published, QUICK) is not None
    after = content(hub, name)
    assert commits(name) == before + 1
    changed = {path for path in after if after[path] != held.get(path)}
    assert changed == {layout.REVISIONS, layout.CARD, *(layout.evaluation_file(step) for step in steps[:2])}
    index = documents.parse(after[layout.REVISIONS], RevisionIndex, where="the branch")
    assert {item.step: item.results for item in index.revisions if item.results} == {
        step: {"t.loss": 1.5} for step in steps[:2]
    }
    assert push_results(published, QUICK) is None and commits(name) == before + 1


def test_a_sweep_over_a_published_run_goes_on_and_pushes_what_it_found(hub, published):
    name = documents.read_run(published).name
    address = f"hf://{REPO}@{name}"
    steps = [entry.step for entry in documents.read_run(published).checkpoints]
    runner, words = CliRunner(), ["evaluate", address, "--tasks", "validation", "--format", "json"]
    first = runner.invoke(app, [*words, "--steps", str(steps[0])])
    assert first.exit_code == 0, first.output
    done = runner.invoke(app, [*words, "--push"])
    assert done.exit_code == 0, done.output
    assert f"step {steps[0]}:" not in done.stderr and f"step {steps[-1]}: validation" in done.stderr
    assert "commit" in done.stderr.splitlines()[-1]
    rows = json.loads(done.stdout)
    index = documents.parse(content(hub, name)[layout.REVISIONS], RevisionIndex, where="the branch")
    for row in rows:
        found = index.find(row["step"])
        assert found.results["validation.loss"] == row["tasks"]["validation"]["loss"]
