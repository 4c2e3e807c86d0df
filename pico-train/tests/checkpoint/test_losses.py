"""What a run has lost: the lines of the log that must be there, and what a person accepted."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from support.small_run import begin, contents

from pico_schema import ConfigChange, documents, layout
from pico_train.checkpoint import losses
from pico_train.checkpoint.losses import Loss
from pico_train.checkpoint.writer import CheckpointWriter
from pico_train.errors import CheckpointError

NOW = datetime(2025, 1, 2, tzinfo=UTC)


@pytest.fixture
def run_dir(tmp_path):
    """Checkpoints at 0 and 40; a line every ten steps, from step 25 every five."""
    directory = begin(tmp_path / "run")
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
