"""The validation rows are stored once per run: with it, on the Hub, and for runs that were begun before."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors
from support.publishing import QUICK, REPO
from support.tiny import config
from support.training_runs import train_until
from support.worlds import launch
from typer.testing import CliRunner

from pico_conformance import Hub
from pico_schema import documents, layout
from pico_schema.digests import samples_sha256
from pico_train.checkpoint import validation_rows
from pico_train.checkpoint.verify import verify_run
from pico_train.cli.app import app
from pico_train.data.corpus import open_corpus
from pico_train.errors import CheckpointError
from pico_train.publish.command import publish_run

STEPS = 3


@pytest.fixture(scope="module")
def trained(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = config(tmp_path_factory.mktemp("runs"), text, training__max_steps=STEPS, training__schedule__warmup_steps=1)
    assert launch(train_until, made) == [0]
    return Path(made.out) / made.name


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "runs" / trained.name))


def test_they_are_the_rows_of_the_corpus_in_the_columns_of_the_contract(run: Path, text: Path) -> None:
    made = config(run.parent, text)
    corpus = open_corpus(made.data)
    table = pq.read_table(run / layout.VALIDATION_ROWS)
    assert tuple(table.column_names) == layout.VALIDATION_COLUMNS
    ids = np.array(table["input_ids"].to_pylist(), np.int32)
    assert np.array_equal(ids, corpus.validation(made.data.val_rows))
    assert table["row"].to_pylist() == list(range(len(ids)))
    assert table["source"].to_pylist() == corpus.validation_sources(len(ids)) == ["held_out.txt"] * len(ids)
    assert all(len(row.split()) > 2 for row in table["text"].to_pylist())


def test_they_are_the_samples_of_every_validation_capture(run: Path) -> None:
    stored = validation_rows.read(run, documents.read_run(run))
    captures = 0
    for _, directory in documents.checkpoint_dirs(run):
        for capture in documents.read_checkpoint(directory).captures:
            if capture.split == "val":
                with safetensors.safe_open(directory / capture.file, framework="np") as file:
                    kept = stored.input_ids[json.loads(file.metadata()["rows"])]
                assert samples_sha256(kept.tobytes(), kept.shape, capture.positions) == capture.samples_sha256
                captures += 1
    assert captures >= 2


def test_the_command_prints_them(run: Path) -> None:
    stored = validation_rows.read(run, documents.read_run(run))
    shown = CliRunner().invoke(app, ["data", "show", str(run), "--split", "val"])
    assert shown.exit_code == 0
    assert all(text in shown.stdout for text in stored.texts) and "row 0 · held_out.txt" in shown.stdout
    one = CliRunner().invoke(app, ["data", "show", str(run), "--split", "val", "--row", "2", "--format", "json"])
    content = json.loads(one.stdout)
    assert content["split"] == "val" and content["n_rows"] == len(stored.texts)
    assert [row["row"] for row in content["rows"]] == [2]
    assert content["rows"][0]["input_ids"] == stored.input_ids[2].tolist()


def test_a_run_begun_before_them_gets_them_on_resume_and_nothing_else_changes(run: Path, text: Path) -> None:
    before = documents.read_run(run)
    assert before.validation is not None
    documents.write(run / layout.RUN_MANIFEST, before.model_copy(update={"validation": None}))
    (run / layout.VALIDATION_ROWS).unlink()
    with pytest.raises(CheckpointError, match="resume it once to store them"):
        validation_rows.read(run, documents.read_run(run))
    assert verify_run(run).sound
    made = config(run.parent, text, training__max_steps=STEPS, training__schedule__warmup_steps=1)
    assert launch(train_until, made) == [0]
    assert documents.read_run(run) == before


@pytest.mark.parametrize("how", ["missing", "altered"])
def test_damage_is_found_by_verify_and_mended_by_a_resume(run: Path, text: Path, how: str) -> None:
    path = run / layout.VALIDATION_ROWS
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    (problem,) = verify_run(run).problems
    assert (problem.step, problem.problem, problem.path) == (None, how, layout.VALIDATION_ROWS)
    with pytest.raises(CheckpointError, match="resume the run"):
        validation_rows.read(run, documents.read_run(run))
    made = config(run.parent, text, training__max_steps=STEPS, training__schedule__warmup_steps=1)
    assert launch(train_until, made) == [0]
    assert verify_run(run).sound


class TestOnTheHub:
    """They travel with the run, once."""

    @pytest.fixture
    def hub_mode(self) -> str:
        return "lfs"

    def test_each_revision_has_them_and_they_travel_once(self, hub: Hub, run: Path) -> None:
        assert publish_run(run, QUICK).error is None
        repository = hub.repository("models", REPO)
        steps = [step for step, _ in documents.checkpoint_dirs(run)]
        trees, changed = [], []
        for step in steps:
            commit = repository.resolve(layout.tag_name(run.name, step))
            (row,) = [row for row in repository.tree(commit) if row["path"] == layout.VALIDATION_ROWS]
            trees.append(row["lfs"]["oid"])
            changed.append(
                layout.VALIDATION_ROWS in repository.git("diff-tree", "-r", "--name-only", commit).decode().split()
            )
        listed = documents.read_run(run).validation
        assert listed is not None and set(trees) == {listed.sha256}
        assert changed == [True] + [False] * (len(steps) - 1), "an unchanged file does not travel again"

    @pytest.mark.usefixtures("hub")
    def test_rows_that_are_not_those_listed_are_not_published(self, run: Path) -> None:
        (run / layout.VALIDATION_ROWS).write_bytes(b"something else")
        report = publish_run(run, QUICK)
        assert report.exit_code == 3 and layout.VALIDATION_ROWS in str(report.error)
