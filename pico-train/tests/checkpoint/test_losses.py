"""What a run has lost: the lines of the log that must be there, and what a person accepted."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime

import pytest
from support.small_run import begin, clone, contents

from pico_schema import ConfigChange, documents, layout
from pico_train.checkpoint import losses, set_aside
from pico_train.checkpoint.losses import Loss
from pico_train.checkpoint.writer import CheckpointWriter
from pico_train.errors import CheckpointError

NOW = datetime(2025, 1, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Checkpoints at 0 and 40; a line every ten steps, from step 25 every five."""
    directory = begin(tmp_path_factory.mktemp("made") / "run")
    change = ConfigChange(step=25, when=NOW, field="monitoring.log_every", before=10, after=5)
    run = documents.read_run(directory).model_copy(
        update={"config": {"monitoring": {"log_every": 5}}, "changes": (change,)}
    )
    documents.write(directory / layout.RUN_MANIFEST, run)
    write_log(directory, [0, 10, 20, 25, 30, 35])
    with CheckpointWriter(directory) as writer:
        writer.save(contents(0))
        writer.save(contents(40))
    return directory


@pytest.fixture
def run_dir(made, tmp_path):
    return clone(made, tmp_path / "run")


def write_log(run_dir, steps):
    (run_dir / layout.METRICS_LOG).write_text("".join(f'{{"step": {step}}}\n' for step in steps))


def found(run_dir):
    return [(loss.step, loss.rows) for loss in losses.find(run_dir, documents.read_run(run_dir))]


@pytest.mark.parametrize(
    "there, missing",
    [
        ([0, 10, 20, 25, 30, 35], []),
        ([0, 3, 10, 20, 25, 30, 35, 40, 41], []),  # more than must be: a validation, a step past the seal
        ([10, 20, 25, 30, 35], [(0, 0)]),
        ([0, 10, 30, 35], [(20, 25)]),
        ([0, 20, 25, 30], [(10, 10), (35, 35)]),
        ([], [(0, 35)]),
    ],
)
def test_every_line_that_led_to_a_seal_must_be_there(run_dir, there, missing):
    write_log(run_dir, there)
    assert found(run_dir) == [(None, rows) for rows in missing]


def test_lines_past_the_newest_seal_were_not_durable_and_are_no_loss(run_dir):
    run = documents.read_run(run_dir)
    documents.write(run_dir / layout.RUN_MANIFEST, run.model_copy(update={"checkpoints": run.checkpoints[:1]}))
    write_log(run_dir, [])
    assert found(run_dir) == []


def test_what_was_accepted_is_no_loss_any_more_and_new_losses_are(run_dir):
    write_log(run_dir, [0, 10, 30, 35])
    run = documents.read_run(run_dir)
    losses.accept(run_dir, losses.find(run_dir, run), when=NOW)
    assert found(run_dir) == []
    write_log(run_dir, [0, 30, 35])
    assert found(run_dir) == [(None, (10, 10))]
    losses.accept(run_dir, losses.find(run_dir, run), when=NOW)
    assert [item.rows for item in losses.accepted(run_dir)] == [(20, 25), (10, 10)]


def test_a_checkpoint_stays_a_loss_for_as_long_as_the_index_lists_it(run_dir):
    """An acceptance that was interrupted is not taken for one that was done; and it is written down once."""
    gone = Loss(40, "", "step 40 is gone", documents.read_run(run_dir).checkpoints[-1].manifest_sha256)
    losses.accept(run_dir, [gone], when=NOW)
    losses.accept(run_dir, [gone], when=datetime(2025, 3, 4, tzinfo=UTC))
    (run_dir / layout.checkpoint_dir(40) / layout.MANIFEST).unlink()
    assert found(run_dir) == [(40, None)]
    assert len(losses.accepted(run_dir)) == 1


@pytest.mark.parametrize("content", [b"", b"[]", b'{"accepted": [{"when": 1}]}', b"[" * 100_000, b"\xff"])
def test_a_damaged_list_of_accepted_losses_is_one_sentence(run_dir, content):
    (run_dir / losses.ACCEPTED).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"accepted_losses\.json: cannot be read") as caught:
        found(run_dir)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("there", "sentences"),
    [
        ([0, 10, 30, 35], ["the lines of steps 20 to 25 are missing from metrics.jsonl"]),
        ([0, 10, 20, 30, 35], ["the line of step 25 is missing from metrics.jsonl"]),
        ([20, 25], ["the lines of steps 0 to 10 are missing from metrics.jsonl",
                    "the lines of steps 30 to 35 are missing from metrics.jsonl"]),
    ],
)  # fmt: skip
def test_lines_that_are_gone_are_named(run_dir, there, sentences):
    write_log(run_dir, there)
    run = documents.read_run(run_dir)
    assert [(loss.path, loss.detail) for loss in losses.find(run_dir, run)] == [("metrics.jsonl", s) for s in sentences]


def test_a_checkpoint_without_its_manifest_and_one_without_its_directory_are_named(run_dir):
    run = documents.read_run(run_dir)
    (run_dir / layout.checkpoint_dir(40) / layout.MANIFEST).unlink()
    shutil.rmtree(run_dir / layout.checkpoint_dir(0))
    first, last = (entry.manifest_sha256 for entry in run.checkpoints)
    assert losses.find(run_dir, run) == [
        Loss(0, "", "step 0 is listed in run.json, but the checkpoint is not there", first),
        Loss(40, "manifest.json", "step 40 is listed in run.json, but manifest.json is not there", last),
    ]


def test_what_was_missing_when_a_run_went_back_is_a_loss_until_it_is_sealed_again_or_accepted(run_dir):
    (entry,) = documents.read_run(run_dir).checkpoints[1:]
    shutil.rmtree(run_dir / layout.checkpoint_dir(40))
    set_aside.put_aside_after(run_dir, 0, reason="the run went on from step 0")
    write_log(run_dir, [])
    run = documents.read_run(run_dir)
    detail = "step 40 was missing when the run went on from step 0, and was not sealed again"
    loss = Loss(40, "", detail, entry.manifest_sha256)
    assert losses.find(run_dir, run) == [loss]
    losses.accept(run_dir, [Loss(40, "", detail, "f" * 64)], when=NOW)
    assert losses.find(run_dir, run) == [loss], "another checkpoint of that step was accepted"
    losses.accept(run_dir, [loss], when=NOW)
    assert losses.find(run_dir, run) == []
    (run_dir / losses.ACCEPTED).unlink()
    with CheckpointWriter(run_dir) as writer:
        writer.save(contents(40))
    write_log(run_dir, [0, 10, 20, 25, 30, 35])
    assert losses.find(run_dir, documents.read_run(run_dir)) == []


@pytest.mark.parametrize(("end", "missing"), [(25, [(20, 20)]), (26, [(20, 25)]), (30, [(20, 25)]), (31, [(20, 30)])])
def test_a_line_is_due_before_the_newest_seal_only_by_the_settings_in_force(run_dir, end, missing):
    """The settings changed at step 25 to a line every five steps."""
    write_log(run_dir, [0, 10])
    run = documents.read_run(run_dir)
    newest = run.checkpoints[1].model_copy(update={"step": end})
    run = run.model_copy(update={"checkpoints": (newest,)})
    assert [loss.rows for loss in losses.find(run_dir, run) if loss.rows] == missing


@pytest.mark.parametrize("every", [0, -5, True, None, "10", 2.5])
def test_no_line_is_due_by_a_setting_that_is_no_number_of_steps(run_dir, every):
    """A run.json of another program may say anything there."""
    write_log(run_dir, [])
    run = documents.read_run(run_dir).model_copy(update={"config": {"monitoring": {"log_every": every}}, "changes": ()})
    assert losses.find(run_dir, run) == []


def test_the_file_of_accepted_losses_is_as_documented(run_dir):
    losses.accept(run_dir, [Loss(7, "a.json", "it is gone", "e" * 64), Loss(None, "b", "c", rows=(1, 2))], when=NOW)
    assert (
        (run_dir / "accepted_losses.json").read_text()
        == """{
 "version": 1,
 "accepted": [
  {
   "when": "2025-01-02T00:00:00Z",
   "step": 7,
   "path": "a.json",
   "detail": "it is gone",
   "manifest_sha256": "%s",
   "rows": null
  },
  {
   "when": "2025-01-02T00:00:00Z",
   "step": null,
   "path": "b",
   "detail": "c",
   "manifest_sha256": null,
   "rows": [
    1,
    2
   ]
  }
 ]
}
"""
        % ("e" * 64)
    )


@pytest.mark.parametrize("every", [1, 10])
def test_before_the_first_seal_no_line_is_due(run_dir, every):
    write_log(run_dir, [])
    config = {"monitoring": {"log_every": every}}
    run = documents.read_run(run_dir).model_copy(update={"config": config, "changes": (), "checkpoints": ()})
    assert losses.find(run_dir, run) == []


def test_with_a_line_at_every_step_each_is_due(run_dir):
    write_log(run_dir, [step for step in range(40) if step not in (3, 38, 39)])
    config = {"monitoring": {"log_every": 1}}
    run = documents.read_run(run_dir).model_copy(update={"config": config, "changes": ()})
    assert [loss.rows for loss in losses.find(run_dir, run)] == [(3, 3), (38, 39)]
