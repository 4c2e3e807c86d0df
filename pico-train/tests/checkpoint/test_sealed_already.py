"""What becomes of a step that stands sealed already, or was set aside, when a run arrives at it."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
from support.disks import CountingDisk
from support.small_run import begin, contents, digest_tree, evaluate

from pico_schema import documents, layout
from pico_train.checkpoint import set_aside
from pico_train.checkpoint.writer import CheckpointWriter


def place(run_dir, step):
    return run_dir / layout.checkpoint_dir(step)


def indexed(run_dir):
    return [entry.step for entry in documents.read_run(run_dir).checkpoints]


@pytest.fixture
def run_dir(tmp_path):
    made = begin(tmp_path / "run")
    CheckpointWriter(made).save(contents(3))
    return made


def test_a_step_that_the_index_lacks_is_listed_and_its_evaluation_comes_back(run_dir):
    evaluate(run_dir, 3)
    wanted = digest_tree(run_dir)
    moved = set_aside.put_step_aside(run_dir, 3, reason="the test says so")
    moved.checkpoints[3].rename(place(run_dir, 3))  # as if an interruption had come before the index
    told = []
    made = CheckpointWriter(run_dir, on_sealed=lambda step, _: told.append(step))
    made.save(contents(3))
    assert indexed(run_dir) == told == [3] and made.sealed == []
    assert wanted.items() <= digest_tree(run_dir).items()


def test_a_listed_step_is_left_as_it_is(run_dir):
    disk = CountingDisk()
    CheckpointWriter(run_dir, disk=disk).save(contents(3))
    assert disk.calls == []


def test_a_damaged_one_is_set_aside_and_the_first_reason_told(run_dir):
    path = place(run_dir, 3) / layout.MODEL_CONFIG
    path.unlink()
    (place(run_dir, 3) / layout.WEIGHTS).unlink()
    with pytest.warns(RuntimeWarning) as caught:
        CheckpointWriter(run_dir).save(contents(3))
    (moved,) = set_aside.listed(run_dir)
    (message,) = (str(item.message) for item in caught)
    assert message.startswith(f"{place(run_dir, 3)} is damaged (config.json")
    assert message.endswith(f"): moved to {moved.folder} and written anew")
    assert moved.note.reason.startswith("step 3 is damaged (config.json")
    assert path.exists() and not (moved.checkpoints[3] / layout.MODEL_CONFIG).exists()


@pytest.mark.parametrize("damaged", [True, False])
def test_of_two_copies_the_newest_that_is_whole_and_the_same_is_taken_back(run_dir, damaged):
    wanted = digest_tree(place(run_dir, 3))
    set_aside.put_step_aside(run_dir, 3, reason="once")
    other = contents(3) if damaged else replace(contents(3), weights=contents(4).weights)
    shutil.move(place_aside := set_aside.root(run_dir) / "0001", run_dir / "hidden")
    CheckpointWriter(run_dir).save(other)
    shutil.move(run_dir / "hidden", place_aside)
    moved = set_aside.put_step_aside(run_dir, 3, reason="twice")
    if damaged:
        (moved.checkpoints[3] / layout.TOKENIZER).unlink()
    made = CheckpointWriter(run_dir)
    made.save(contents(3))
    assert made.sealed == [] and digest_tree(place(run_dir, 3)) == wanted and indexed(run_dir) == [3]
    assert [sorted(item.checkpoints) for item in set_aside.listed(run_dir)] == [[], [3]]
