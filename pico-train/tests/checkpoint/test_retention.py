import pytest
from support.small_run import begin, contents

from pico_schema import layout
from pico_train.checkpoint import resume
from pico_train.checkpoint.retention import kept
from pico_train.checkpoint.verify import verify_run
from pico_train.checkpoint.writer import CheckpointWriter
from pico_train.config import KeepPolicy


@pytest.mark.parametrize(
    "policy, expected",
    [
        (KeepPolicy(), {0, 1, 2, 4, 8, 10, 20}),
        (KeepPolicy(last=2), {10, 20}),
        (KeepPolicy(every=4), {0, 4, 8, 20}),
        (KeepPolicy(last=2, every=10), {0, 10, 20}),
    ],
)
def test_which_training_states_stay(policy, expected):
    assert kept(policy, [0, 1, 2, 4, 8, 10, 20]) == expected


def present(run_dir):
    return [step for step in range(8) if (run_dir / layout.checkpoint_dir(step) / layout.TRAINING_STATE).is_dir()]


def test_training_states_go_and_everything_else_stays(tmp_path):
    run_dir = begin(tmp_path / "run")
    with CheckpointWriter(run_dir, keep=KeepPolicy(last=2)) as writer:
        for step in range(6):
            writer.submit(contents(step))
    assert present(run_dir) == [4, 5]
    report = verify_run(run_dir)
    # the run's own configuration says that all are kept: from the outside, the removed ones are damage
    assert {item.step for item in report.problems} == {0, 1, 2, 3}
    for step in range(6):
        directory = run_dir / layout.checkpoint_dir(step)
        assert resume.damage(directory) == []
        assert (directory / layout.WEIGHTS).is_file() and (directory / layout.captures_file("val")).is_file()
    newest = resume.newest_complete(run_dir)
    assert newest is not None and newest.step == 5


def test_a_state_that_is_being_published_waits(tmp_path):
    run_dir = begin(tmp_path / "run")
    pending = {0, 1}
    with CheckpointWriter(run_dir, keep=KeepPolicy(last=1), protected=lambda: set(pending)) as writer:
        for step in range(3):
            writer.save(contents(step))
        assert present(run_dir) == [0, 1, 2]
        pending.clear()
        writer.save(contents(3))
    assert present(run_dir) == [3]


def test_a_checkpoint_without_training_state_is_no_place_to_resume_from(tmp_path):
    run_dir = begin(tmp_path / "run")
    with CheckpointWriter(run_dir, keep=KeepPolicy(last=1)) as writer:
        for step in range(3):
            writer.save(contents(step, training_state=step < 2))
    newest = resume.newest_complete(run_dir)
    assert newest is not None and newest.step == 1  # 0 is pruned, 2 never had one
    weights = resume.newest_complete(run_dir, training_state=False)
    assert weights is not None and weights.step == 2


def test_part_of_a_training_state_missing_is_damage(tmp_path):
    run_dir = begin(tmp_path / "run")
    with CheckpointWriter(run_dir) as writer:
        writer.save(contents(0))
    (run_dir / layout.checkpoint_dir(0) / "training_state/state.ckpt").unlink()
    assert [item.path for item in resume.damage(run_dir / layout.checkpoint_dir(0))] == ["training_state/state.ckpt"]
