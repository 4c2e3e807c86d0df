"""A run's directory tells one history, whatever was changed, lost or deleted between two commands."""

from __future__ import annotations

import json
import random
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from support.publishing import QUICK, REPO
from support.small_run import clone, digest_tree
from support.tiny import config
from support.training_runs import as_text, logged, sealed, train_again, weights, what_a_step_holds

from pico_schema import documents, layout
from pico_train.checkpoint import losses, metrics_log, resume, set_aside
from pico_train.checkpoint.repair import repair_run
from pico_train.checkpoint.verify import verify_run
from pico_train.config import RunConfig
from pico_train.data.inspect.batches import batch_of_run
from pico_train.errors import InterruptedRun
from pico_train.publish.command import publish_run
from pico_train.reporter import Reporter
from pico_train.run import train

SPARSE: dict[str, Any] = {
    "training__max_steps": 10,
    "training__schedule__warmup_steps": 2,
    "checkpoint__weights": {"early": None, "every": 2},
    "checkpoint__training_state": {"early": None, "every": 6, "last": False},
    "checkpoint__captures": {"early": None, "last": False},
    "evaluation__cadence": {"early": None, "every": 4},
}
"""Weights at 2, 4, 6, 8, 10; training can go on from 6 only."""


def quietly(settings: RunConfig, **options: Any) -> list[str]:
    """Train; what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(settings, reporter=Reporter(), **options)
    return [str(item.message) for item in caught if item.category is RuntimeWarning]


@pytest.fixture(scope="module")
def sparse(text, tmp_path_factory):
    settings = config(tmp_path_factory.mktemp("sparse"), text, **SPARSE)
    assert quietly(settings) == []
    return Path(settings.out) / settings.name


@pytest.fixture(scope="module")
def dense(text, tmp_path_factory):
    settings = config(tmp_path_factory.mktemp("dense"), text)
    assert quietly(settings) == []
    return Path(settings.out) / settings.name


def back_to(run_dir: Path, step: int) -> None:
    """As after a crash: what was sealed after `step` never was."""
    run = documents.read_run(run_dir)
    kept = tuple(entry for entry in run.checkpoints if entry.step <= step)
    documents.write(run_dir / layout.RUN_MANIFEST, run.model_copy(update={"checkpoints": kept}))
    for number, path in list(documents.checkpoint_dirs(run_dir)):
        if number > step:
            shutil.rmtree(path)
            (run_dir / layout.evaluation_file(number)).unlink(missing_ok=True)


class TestTwoTrajectories:
    """A resume from an earlier step than the last under something that changes what follows."""

    def test_steps_of_the_old_schedule_are_set_aside_and_named(self, text, tmp_path, sparse):
        run_dir = clone(sparse, tmp_path / "tiny")
        old = {step: digest_tree(run_dir / layout.checkpoint_dir(step)) for step in (8, 10)}
        old_rows = {row["step"]: row["loss"] for row in metrics_log.read(run_dir / layout.METRICS_LOG)}
        said = quietly(config(tmp_path, text, **SPARSE | {"training__max_steps": 14}))
        (moved,) = set_aside.listed(run_dir)
        assert any("steps 8, 10" in line and "training.max_steps=14" in line for line in said)
        assert {step: digest_tree(path) for step, path in moved.checkpoints.items()} == old
        assert sorted(path.name for path in (moved.folder / layout.EVALUATIONS).iterdir()) == [
            "step-00000008.json",
            "step-00000010.json",
        ]
        assert [row["step"] for row in metrics_log.read(moved.folder / layout.METRICS_LOG)] == [6, 7, 8, 9, 10]

        assert sealed(run_dir) == [2, 4, 6, 8, 10, 12, 14]
        for step in (8, 10):  # another learning rate since step 6: the weights and losses are others
            new = documents.read_checkpoint(run_dir / layout.checkpoint_dir(step))
            assert new.weights_sha256 != documents.read_checkpoint(moved.checkpoints[step]).weights_sha256
        rows = {row["step"]: row["loss"] for row in metrics_log.read(run_dir / layout.METRICS_LOG)}
        assert list(rows) == list(range(15))
        assert all(rows[step] == old_rows[step] for step in range(7)) and rows[10] != old_rows[10]
        (change,) = documents.read_run(run_dir).changes
        assert (change.step, change.field, change.before, change.after) == (6, "training.max_steps", 10, 14)
        report = verify_run(run_dir)
        assert report.sound and any("steps 8, 10" in line for line in report.set_aside)

    def test_what_is_done_again_bit_for_bit_is_taken_back_under_its_old_seal(self, text, tmp_path, sparse):
        run_dir = clone(sparse, tmp_path / "tiny")
        back_to(run_dir, 8)
        before = digest_tree(run_dir / layout.checkpoint_dir(8)), digest_tree(run_dir / layout.EVALUATIONS)
        digests = resume.digests(run_dir)
        said = quietly(config(tmp_path, text, **SPARSE))
        assert any("step 8" in line and "went on from step 6" in line for line in said)
        assert digest_tree(run_dir / layout.checkpoint_dir(8)) == before[0]
        assert before[1].items() <= digest_tree(run_dir / layout.EVALUATIONS).items()
        assert digests.items() <= resume.digests(run_dir).items()
        assert set_aside.listed(run_dir) == [] and logged(run_dir) == logged(sparse)
        assert verify_run(run_dir).sound

    def test_a_longer_run_says_nothing_of_its_last_line_which_gets_its_learning_rate(self, text, tmp_path, dense):
        run_dir = clone(dense, tmp_path / "tiny")
        flat = {"training__max_steps": 15, "training__schedule__name": "constant"}
        assert not any("set aside" in line for line in quietly(config(tmp_path, text, **flat), override=True))
        assert verify_run(run_dir).set_aside == []
        assert [row["step"] for row in logged(run_dir)] == list(range(16)) and "lr" in logged(run_dir)[14]

    def test_a_run_whose_last_step_is_sealed_without_a_state_is_finished(self, text, tmp_path, sparse):
        run_dir = clone(sparse, tmp_path / "tiny")
        before = digest_tree(run_dir)
        assert quietly(config(tmp_path, text, **SPARSE)) == []
        assert {name: digest for name, digest in digest_tree(run_dir).items() if name != ".lock"} == {
            name: digest for name, digest in before.items() if name != ".lock"
        }

    def test_an_override_sets_aside_too_and_a_change_made_after_the_step_is_taken_back(self, text, tmp_path, sparse):
        run_dir = clone(sparse, tmp_path / "tiny")
        faster = SPARSE | {"training__optimizer__lr": 1e-2, "training__max_steps": 12}
        assert any(
            "training.optimizer.lr=0.01" in line for line in quietly(config(tmp_path, text, **faster), override=True)
        )
        # The state of step 12 is lost: the run goes back to 6, before the override, under the configuration of then.
        assert resume.newest_complete(run_dir).step == 12
        back_to(run_dir, 10)
        answer = train_again(config(tmp_path, text, **faster))
        assert answer == "", "what was accepted at step 6 still holds from there"
        run = documents.read_run(run_dir)
        assert [(item.step, item.field) for item in run.changes] == [
            (6, "training.max_steps"),
            (6, "training.optimizer.lr"),
        ]
        longer = faster | {"training__max_steps": 13}
        assert train_again(config(tmp_path, text, **longer)) == ""
        back_to(run_dir, 10)
        assert train_again(config(tmp_path, text, **longer)) == ""
        changes = [(item.step, item.field, item.before, item.after) for item in documents.read_run(run_dir).changes]
        assert changes == [
            (6, "training.max_steps", 10, 12),
            (6, "training.optimizer.lr", 3e-3, 1e-2),
            (6, "training.max_steps", 12, 13),
        ]
        assert verify_run(run_dir).sound

    def test_a_published_step_that_is_set_aside_is_named(self, text, tmp_path, sparse):
        from pico_train.publish import queue as publishing

        run_dir = clone(sparse, tmp_path / "tiny")
        queue = publishing.Queue(run_dir, "org/family")
        queue.save(queue.record(10).model_copy(update={"state": "done", "commit": "c" * 40}))
        said = quietly(config(tmp_path, text, **SPARSE | {"training__max_steps": 9}))
        assert any("step 10 stays published as org/family@tiny-step-10" in line for line in said)
        assert 10 not in publishing.sealed(run_dir), "an abandoned step is not there to be published"
        assert any("org/family@tiny-step-10" in line for line in verify_run(run_dir).set_aside)


class TestOtherVersion:
    """A run that an earlier version began goes on, and its batches are shown."""

    def test_a_setting_that_is_gone_and_one_that_came_later(self, text, tmp_path):
        settings = {
            "training__max_steps": 2,
            "training__schedule__warmup_steps": 1,
            "checkpoint__captures": {"every": 1},
        }
        quietly(config(tmp_path, text, **settings))
        path = tmp_path / "tiny" / layout.RUN_MANIFEST
        record = json.loads(path.read_text())
        record["config"]["data"]["allow_change"] = False
        del record["config"]["data"]["encoding_errors"]
        path.write_text(json.dumps(record))
        batch = batch_of_run(tmp_path / "tiny", 1)
        assert batch.captured_sha256 == batch.sha256
        quietly(config(tmp_path, text, **settings | {"training__max_steps": 3}))
        run = documents.read_run(tmp_path / "tiny")
        assert [entry.step for entry in run.checkpoints][-1] == 3
        assert {change.field for change in run.changes} == {"training.max_steps"}


class TestOtherBatchSize:
    """tokens_seen and the place in the data are carried on."""

    def test_no_row_is_left_out_or_trained_on_twice(self, text, tmp_path):
        """Rows in their order, 28 an epoch: 6 steps of 4, then 3 of 8, then 2 more."""
        settings = {"data__order": "sequential", "training__max_steps": 6, "checkpoint__captures": {"every": 1}}
        quietly(config(tmp_path, text, **settings))
        larger = settings | {"training__batch_size": 8, "training__max_steps": 9}
        answer = train_again(config(tmp_path, text, **larger))
        assert answer.startswith("ConfigError") and "training.batch_size was 4, is now 8" in answer
        quietly(config(tmp_path, text, **larger), override=True)
        quietly(config(tmp_path, text, **larger | {"training__max_steps": 11}))

        run_dir = tmp_path / "tiny"
        places = [4 * step for step in range(7)] + [24 + 8 * step for step in range(1, 6)]
        rows = {}
        for step, directory in documents.checkpoint_dirs(run_dir):
            manifest = documents.read_checkpoint(directory)
            assert manifest.tokens_seen == places[step] * 12
            assert (manifest.cursor.epoch, manifest.cursor.row) == divmod(places[step], 28)
            rows[step] = pq.read_table(directory / layout.TRAIN_BATCH)["row_id"].to_pylist()
        # Step 6 was sealed with the batch of four that would have come next; its update had eight.
        trained_on = [row for step in range(6) for row in rows[step]] + [
            row for step in (7, 8, 9, 10) for row in rows[step]
        ]
        assert trained_on == [place % 28 for place in [*range(24), *range(32, 64)]]
        run = documents.read_run(run_dir)
        assert [entry.tokens_seen for entry in run.checkpoints] == [place * 12 for place in places]
        log = metrics_log.read(run_dir / layout.METRICS_LOG)
        assert [row["tokens_seen"] for row in log] == [place * 12 for place in places]
        assert verify_run(run_dir).sound
        for step, begin, size in ((5, 20, 4), (6, 24, 8), (7, 32, 8), (20, 136, 8)):
            batch = batch_of_run(run_dir, step)
            assert [row.row_id for row in batch.rows] == [place % 28 for place in range(begin, begin + size)]
            assert batch.epoch == begin // 28
            assert log[step]["batch_sha256"] == batch.sha256 if step < 11 else True


class TestOtherData:
    """`--override` on a text that has grown."""

    def test_they_begin_at_their_first_row_and_it_is_recorded(self, text, tmp_path):
        grown = shutil.copytree(text.parent, tmp_path / "text") / text.name
        settings = {"data__order": "sequential", "training__max_steps": 6, "checkpoint__captures": {"every": 1}}
        quietly(config(tmp_path, grown, **settings))
        grown.write_text(grown.read_text(encoding="utf-8") * 2, encoding="utf-8")
        longer = config(tmp_path, grown, **settings | {"training__max_steps": 9})
        answer = train_again(longer)
        assert answer.startswith("DataError") and "--override" in answer
        assert verify_run(tmp_path / "tiny").sound and documents.read_run(tmp_path / "tiny").changes == ()
        quietly(longer, override=True)
        run_dir = tmp_path / "tiny"
        run = documents.read_run(run_dir)
        assert [(item.step, item.field) for item in run.changes] == [(6, "training.max_steps"), (6, "data.sha256")]
        for step in (7, 8, 9):
            manifest = documents.read_checkpoint(run_dir / layout.checkpoint_dir(step))
            assert (manifest.tokens_seen, manifest.cursor.row) == (step * 4 * 12, (step - 6) * 4)
            assert manifest.data == run.data
            taken = pq.read_table(run_dir / layout.checkpoint_dir(step) / layout.TRAIN_BATCH)["row_id"].to_pylist()
            assert taken == list(range((step - 6) * 4, (step - 5) * 4))
            assert [row.row_id for row in batch_of_run(run_dir, step).rows] == taken
        assert quietly(config(tmp_path, grown, **settings | {"training__max_steps": 10})) == [], "it is its data by now"


class TestLosses:
    """What is gone stays visible until a person accepts it."""

    def test_a_deleted_checkpoint_and_a_cut_log_stay_visible_through_further_runs(self, text, tmp_path, dense):
        run_dir = clone(dense, tmp_path / "tiny")
        shutil.rmtree(run_dir / layout.checkpoint_dir(6))
        log = run_dir / layout.METRICS_LOG
        log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[4:]))
        for _ in range(2):
            said = quietly(config(tmp_path, text))
            assert any("step 6 is listed in run.json" in line for line in said)
            assert any("the lines of steps 0 to 3 are missing" in line for line in said)
            assert 6 in sealed(run_dir)
        longer = {"training__max_steps": 15}
        quietly(config(tmp_path, text, **longer))
        found = [(item.step, item.problem, item.path) for item in verify_run(run_dir).problems]
        assert found == [(None, "missing", layout.METRICS_LOG), (6, "missing", "")]

        report = repair_run(run_dir)
        assert not report.sound and report.accepted == [] and 6 in sealed(run_dir)
        report = repair_run(run_dir, accept_losses=True)
        assert report.sound and len(report.accepted) == 2
        assert 6 not in sealed(run_dir) and len(losses.accepted(run_dir)) == 2
        assert quietly(config(tmp_path, text, **longer)) == []
        after = verify_run(run_dir)
        assert after.sound and len(after.accepted) == 2

    def test_a_run_of_which_no_checkpoint_is_left_does_not_begin_anew(self, text, tmp_path, dense):
        run_dir = clone(dense, tmp_path / "tiny")
        for _, path in list(documents.checkpoint_dirs(run_dir)):
            shutil.rmtree(path)
        before = digest_tree(run_dir)
        answer = train_again(config(tmp_path, text))
        assert answer.startswith("CheckpointError") and "lists 6 checkpoints and none is there" in answer
        assert {**digest_tree(run_dir), ".lock": ""} == {**before, ".lock": ""}


class TestRunJson:
    """`run.json` lost, damaged, of another run, or of another time."""

    @pytest.fixture
    def run_dir(self, tmp_path, dense):
        return clone(dense, tmp_path / "tiny")

    def test_a_new_run_does_not_begin_over_checkpoints_and_repair_rebuilds_it(self, text, tmp_path, run_dir, dense):
        before = documents.read_run(run_dir)
        back_to(run_dir, 9)
        (run_dir / layout.RUN_MANIFEST).unlink()
        kept = digest_tree(run_dir)
        answer = train_again(config(tmp_path, text))
        assert answer.startswith("CheckpointError") and "\n" not in answer
        assert "4 checkpoints" in answer and f"pico-train repair {run_dir}" in answer
        assert {**digest_tree(run_dir), ".lock": ""} == {**kept, ".lock": ""}

        report = repair_run(run_dir)
        assert report.sound and "from the manifests of 4 sealed checkpoints" in report.rebuilt[0]
        after = documents.read_run(run_dir)
        unknown = {"created", "environment", "checkpoints"}
        assert after.model_dump(exclude=unknown) == before.model_dump(exclude=unknown)
        assert after.checkpoints == before.checkpoints[:4]
        quietly(config(tmp_path, text))
        for step in (0, 3, 6, 9, 12, 14):
            assert as_text(what_a_step_holds(run_dir, step)) == as_text(what_a_step_holds(dense, step)), step
        assert logged(run_dir) == logged(dense)

    @pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b'{"kind": "run"}'])
    def test_a_damaged_one_says_so_and_is_rebuilt(self, text, tmp_path, run_dir, content):
        before = documents.read_run(run_dir)
        (run_dir / layout.RUN_MANIFEST).write_bytes(content)
        answer = train_again(config(tmp_path, text))
        assert answer.startswith("CheckpointError") and f"pico-train repair {run_dir}" in answer
        assert repair_run(run_dir).sound
        assert documents.read_run(run_dir).checkpoints == before.checkpoints
        (moved,) = set_aside.listed(run_dir)
        assert (moved.folder / layout.RUN_MANIFEST).read_bytes() == content

    def test_that_of_another_run_is_refused_and_repaired(self, text, tmp_path, run_dir):
        run = documents.read_run(run_dir)
        documents.write(run_dir / layout.RUN_MANIFEST, run.model_copy(update={"id": "9" * 32, "checkpoints": ()}))
        answer = train_again(config(tmp_path, text))
        assert answer.startswith("CheckpointError") and f"is that of run {'9' * 32}" in answer and "repair" in answer
        assert not verify_run(run_dir).sound
        assert repair_run(run_dir).sound
        assert documents.read_run(run_dir).id == run.id

    def test_an_older_one_is_refused_and_repair_lists_the_checkpoints_again(self, text, tmp_path, run_dir):
        run = documents.read_run(run_dir)
        older = run.model_copy(update={"checkpoints": run.checkpoints[:2]})
        documents.write(run_dir / layout.RUN_MANIFEST, older)
        answer = train_again(config(tmp_path, text))
        assert answer.startswith("CheckpointError") and "does not list steps 6, 9, 12, 14" in answer
        report = repair_run(run_dir)
        assert report.sound and documents.read_run(run_dir).checkpoints == run.checkpoints
        assert any("was older" in line for line in report.not_rebuilt)

    def test_one_unlisted_checkpoint_is_what_a_crash_leaves(self, text, tmp_path, run_dir):
        run = documents.read_run(run_dir)
        documents.write(run_dir / layout.RUN_MANIFEST, run.model_copy(update={"checkpoints": run.checkpoints[:-1]}))
        assert quietly(config(tmp_path, text)) == []
        assert documents.read_run(run_dir).checkpoints == run.checkpoints

    def test_checkpoints_of_two_runs_are_told_apart_and_not_rebuilt(self, run_dir):
        manifest = run_dir / layout.checkpoint_dir(9) / layout.MANIFEST
        changed = documents.dump(documents.read_checkpoint(manifest.parent).model_copy(update={"run_id": "9" * 32}))
        manifest.unlink()
        manifest.write_bytes(changed)
        (run_dir / layout.RUN_MANIFEST).unlink()
        with pytest.raises(
            Exception, match=f"more than one run: steps 0, 3, 6, 12, 14 are of run .*{'9' * 32}"
        ) as caught:
            repair_run(run_dir)
        assert getattr(caught.value, "exit_code", None) == 3

    def test_without_config_yaml_it_says_how_to_write_it_again(self, run_dir):
        (run_dir / layout.RUN_MANIFEST).unlink()
        (run_dir / layout.RUN_CONFIG).unlink()
        with pytest.raises(Exception, match=r"config\.yaml is missing too.*pico-train config show"):
            repair_run(run_dir)

    def test_another_runs_config_yaml_is_found_out(self, text, tmp_path, run_dir):
        from pico_train.config import layers

        (run_dir / layout.RUN_MANIFEST).unlink()
        other = config(tmp_path, text, seed=6)
        (run_dir / layout.RUN_CONFIG).write_text(layers.to_yaml(other), encoding="utf-8")
        with pytest.raises(Exception, match="not this run's configuration: seed is 6, and step 14 was trained with 5"):
            repair_run(run_dir)


class TestFilesThatAreGone:
    """Files of the run and files that several checkpoints share."""

    @pytest.fixture
    def run_dir(self, tmp_path, dense):
        return clone(dense, tmp_path / "tiny")

    def test_the_tokenizer_comes_back_from_another_checkpoint(self, run_dir, dense):
        directory = run_dir / layout.checkpoint_dir(9)
        (directory / layout.TOKENIZER).unlink()
        shortened = (directory / layout.MODEL_CONFIG).read_bytes()[:-1]
        (directory / layout.MODEL_CONFIG).unlink()
        (directory / layout.MODEL_CONFIG).write_bytes(shortened)
        report = repair_run(run_dir)
        assert report.sound and len(report.rebuilt) == 2
        assert digest_tree(directory) == digest_tree(dense / layout.checkpoint_dir(9))

    def test_weights_that_are_gone_are_a_loss_of_their_step(self, run_dir):
        (run_dir / layout.checkpoint_dir(9) / layout.WEIGHTS).unlink()
        assert not repair_run(run_dir).sound
        report = repair_run(run_dir, accept_losses=True)
        assert report.sound and 9 not in sealed(run_dir)
        (moved,) = set_aside.listed(run_dir)
        assert sorted(moved.checkpoints) == [9], "what is left of it is kept"

    def test_config_yaml_comes_back(self, run_dir):
        before = (run_dir / layout.RUN_CONFIG).read_bytes()
        (run_dir / layout.RUN_CONFIG).unlink()
        assert repair_run(run_dir).sound
        assert (run_dir / layout.RUN_CONFIG).read_bytes() == before

    def test_the_whole_log_that_is_gone_is_a_loss(self, run_dir):
        (run_dir / layout.METRICS_LOG).unlink()
        (problem,) = verify_run(run_dir).problems
        assert (problem.problem, problem.path) == ("missing", layout.METRICS_LOG)
        assert "steps 0 to 13" in problem.detail
        assert repair_run(run_dir, accept_losses=True).sound

    def test_validation_rows_are_listed_again_only_if_they_are_those_that_were_captured(self, text, tmp_path, run_dir):
        before = documents.read_run(run_dir)
        (run_dir / layout.RUN_MANIFEST).unlink()
        assert before.validation is not None and repair_run(run_dir).sound
        assert documents.read_run(run_dir).validation == before.validation

        table = pq.read_table(run_dir / layout.VALIDATION_ROWS)
        pq.write_table(table.take([1, 0, 2, 3]), run_dir / layout.VALIDATION_ROWS)
        (run_dir / layout.RUN_MANIFEST).unlink()
        report = repair_run(run_dir)
        assert documents.read_run(run_dir).validation is None
        assert any("pico-train run" in line for line in report.not_rebuilt)
        quietly(config(tmp_path, text))
        assert documents.read_run(run_dir).validation == before.validation

    def test_documents_that_say_different_things_are_two_histories(self, run_dir):
        log = run_dir / layout.METRICS_LOG
        rows = [json.loads(line) for line in log.read_bytes().splitlines()]
        rows[9]["loss"] *= 1.04  # what a schedule of twice the length made of it, in the case that was reported
        rows[12]["tokens_seen"] += 1
        log.write_text("".join(json.dumps(row) + "\n" for row in rows))
        found = [(item.step, item.path) for item in verify_run(run_dir).problems]
        assert found == [(9, layout.METRICS_LOG), (12, layout.METRICS_LOG)]


class Drawing(Reporter):
    """Draws a number from each generator after every step; a signal comes before `stop_at`."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at, self.draws = stop_at, list[tuple[float, ...]]()

    def step(self, row: Mapping[str, Any], **_: bool) -> None:
        import os
        import signal

        self.draws.append((random.random(), float(np.random.rand()), torch.rand(()).item()))
        if self.stop_at is not None and row["step"] == self.stop_at - 1:
            os.kill(os.getpid(), signal.SIGTERM)


def test_random_numbers_after_a_resume_are_those_of_an_undisturbed_run(text, tmp_path):
    """Generators are used at every step, so that their state at the resume is no longer that of the seed."""
    short = {"training__max_steps": 6}
    undisturbed = Drawing()
    train(config(tmp_path / "one", text, **short), reporter=undisturbed)
    first, second = Drawing(stop_at=4), Drawing()
    with pytest.raises(InterruptedRun):
        train(config(tmp_path / "two", text, **short), reporter=first)
    train(config(tmp_path / "two", text, **short), reporter=second)
    assert len(undisturbed.draws) == 7 and len({draw for draws in undisturbed.draws for draw in draws}) == 21
    assert first.draws + second.draws == undisturbed.draws
    assert as_text(weights_of(tmp_path / "two")) == as_text(weights_of(tmp_path / "one"))


def weights_of(out: Path) -> dict[str, Any]:
    return {name: array.tolist() for name, array in weights(out / "tiny", 6).items()}


class TestOnTheHub:
    """Steps that were published before they were set aside."""

    @pytest.fixture
    def hub_mode(self) -> str:
        return "lfs"

    def test_a_tag_is_never_moved_to_the_other_trajectory(self, hub, text, tmp_path, sparse):
        run_dir = clone(sparse, tmp_path / "tiny")
        assert publish_run(run_dir, QUICK).error is None
        repository = hub.repository("models", REPO)
        before = {step: repository.resolve(f"tiny-step-{step}") for step in (2, 4, 6, 8, 10)}
        said = quietly(config(tmp_path, text, **SPARSE | {"training__max_steps": 14}))
        assert any(
            f"step {step} stays published as {REPO}@tiny-step-{step}" in line for line in said for step in (8, 10)
        )
        report = publish_run(run_dir, QUICK)
        assert report.exit_code == 3 and report.error is not None
        assert {row["step"]: row["state"] for row in report.rows if row["step"] in (2, 4, 6)} == dict.fromkeys(
            (2, 4, 6), "done"
        )
        assert [row["step"] for row in report.rows if row["state"] == "refused"] == [8, 10]
        assert {step: repository.resolve(f"tiny-step-{step}") for step in before} == before
