"""k steps, a stop, and the rest of the steps are the same as all of them at once."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
import warnings

import pytest
import torch
from support.closeness import assert_close, largest_difference
from support.small_run import clone
from support.tiny import config
from support.training_runs import (
    as_text,
    command_line,
    count_writers_at_each_copy,
    logged,
    sealed,
    train_again,
    train_until,
    train_until_and_insist,
    weights,
    what_a_step_holds,
)
from support.worlds import launch, start

from pico_schema import Evaluation, documents, layout
from pico_train.checkpoint import metrics_log, resume, set_aside
from pico_train.checkpoint.retention import has_training_state
from pico_train.checkpoint.verify import verify_run

STEPS = 14
EPOCH = 7
"""Steps in an epoch: 28 rows, four at a time."""


@pytest.fixture(scope="module")
def undisturbed(text, tmp_path_factory):
    """All steps at once, by micro-batch size."""
    runs = {}

    def run(**changes):
        key = as_text(changes)
        if key not in runs:
            out = tmp_path_factory.mktemp("undisturbed")
            assert launch(train_until, config(out, text, **changes)) == [0]
            runs[key] = out / "tiny"
        return runs[key]

    return run


def same_to_the_last_bit(run_dir, other, *, steps=(0, 3, 6, 9, 12, 14)):
    for step in steps:
        assert as_text(what_a_step_holds(run_dir, step)) == as_text(what_a_step_holds(other, step)), step
    assert logged(run_dir) == logged(other)
    assert [row["step"] for row in logged(run_dir)] == list(range(steps[-1] + 1))


@pytest.mark.parametrize(
    "k, changes",
    [
        pytest.param(5, {}, id="mid-epoch"),
        pytest.param(EPOCH, {}, id="epoch-edge"),
        pytest.param(6, {}, id="at-a-capture"),
        pytest.param(5, {"training__micro_batch_size": 1}, id="accumulation"),
        pytest.param(5, {"training__precision": "bf16-mixed", "training__micro_batch_size": 2}, id="bf16"),
    ],
)
def test_k_steps_and_the_rest_are_all_the_steps_bit_for_bit(text, tmp_path, undisturbed, k, changes):
    settings = config(tmp_path, text, **changes)
    assert launch(train_until, settings, k) == [143]
    run_dir = tmp_path / "tiny"
    assert sealed(run_dir)[-1] == k
    assert launch(train_until, settings) == [0]
    same_to_the_last_bit(run_dir, undisturbed(**changes))
    if k not in (6,):  # a save outside the cadence is a checkpoint of its own
        assert sealed(run_dir) == sorted({0, 3, 6, 9, 12, 14, k})
    assert verify_run(run_dir).sound


def test_a_run_that_is_finished_is_left_alone(text, tmp_path, undisturbed):
    run_dir = clone(undisturbed(), tmp_path / "tiny")
    before = {path: path.stat().st_mtime_ns for path in run_dir.rglob("*") if path.is_file() and path.name != ".lock"}
    assert launch(train_until, config(tmp_path, text)) == [0]
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("damaged", [False, True], ids=["old", "new"])
def test_either_state_that_a_crash_may_leave_goes_on_to_the_uninterrupted_run(text, tmp_path, undisturbed, damaged):
    """The two ends of every fault in test_faults.py, with real training behind them: step 9 is there, or it is not."""
    run_dir = clone(undisturbed(), tmp_path / "tiny")
    for step in (12, 14) if not damaged else (9, 12, 14):
        shutil.rmtree(run_dir / layout.checkpoint_dir(step))
    (run_dir / layout.CHECKPOINTS / ".tmp-step-00000012").mkdir()
    assert launch(train_until, config(tmp_path, text)) == [0]
    same_to_the_last_bit(run_dir, undisturbed())
    assert not list((run_dir / layout.CHECKPOINTS).glob(".*"))


def test_an_evaluation_that_a_crash_came_before_is_made_up_for(text, tmp_path, undisturbed):
    run_dir = clone(undisturbed(), tmp_path / "tiny")
    shutil.rmtree(run_dir / layout.checkpoint_dir(14))
    kept, lost = (run_dir / layout.evaluation_file(step) for step in (6, 12))
    expected, before = documents.read(lost, Evaluation), kept.stat().st_mtime_ns
    lost.unlink()
    assert launch(train_until, config(tmp_path, text)) == [0]
    assert documents.read(lost, Evaluation).tasks == expected.tasks
    assert kept.stat().st_mtime_ns == before


def test_nothing_is_copied_while_a_checkpoint_is_being_written(text, tmp_path):
    """At most one checkpoint is in memory: training waits for the disk before it copies the next."""
    assert launch(count_writers_at_each_copy, config(tmp_path, text, training__max_steps=6)) == [[0, 0, 0]]


def test_a_damaged_checkpoint_is_passed_over_and_sealed_anew(text, tmp_path, undisturbed):
    run_dir = clone(undisturbed(), tmp_path / "tiny")
    for step in (12, 14):
        shutil.rmtree(run_dir / layout.checkpoint_dir(step))
    path = run_dir / layout.checkpoint_dir(9) / layout.WEIGHTS
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-1])
    assert launch(train_until, config(tmp_path, text)) == [0]
    same_to_the_last_bit(run_dir, undisturbed())
    assert verify_run(run_dir).sound
    (moved,) = set_aside.listed(run_dir)
    assert sorted(moved.checkpoints) == [9] and [entry.step for entry in moved.note.lost] == [12, 14]


def test_step_zero_survives_a_resume_from_step_zero(text, tmp_path, undisturbed):
    run_dir = clone(undisturbed(), tmp_path / "tiny")
    for step in (3, 6, 9, 12, 14):
        shutil.rmtree(run_dir / layout.checkpoint_dir(step))
    manifest = run_dir / layout.checkpoint_dir(0) / layout.MANIFEST
    before = manifest.stat().st_mtime_ns
    assert launch(train_until, config(tmp_path, text)) == [0]
    assert manifest.stat().st_mtime_ns == before
    same_to_the_last_bit(run_dir, undisturbed())


SHORT = {"training__max_steps": 6}
"""For what takes several processes: half an epoch and no more."""


@pytest.mark.parametrize("first, then", [(1, 2), (2, 1)])
def test_another_number_of_processes_gives_the_same_up_to_rounding(text, tmp_path, undisturbed, first, then):
    settings = config(tmp_path, text, **SHORT)
    launch(train_until, settings, 4, world=first)
    launch(train_until, settings, world=then)
    close(tmp_path / "tiny", undisturbed(**SHORT))


@pytest.mark.parametrize("first, then", [(2, 1), (1, 2), (2, 4)])
def test_a_sharded_state_goes_on_with_another_number_of_processes(text, tmp_path, undisturbed, first, then):
    """FSDP2 on two processes, then one without shards; and the other way round; and two, then four."""
    sharded = {"distributed__strategy": "fsdp"}
    launch(train_until, config(tmp_path, text, **SHORT, **(sharded if first > 1 else {})), 4, world=first)
    state = tmp_path / "tiny" / layout.checkpoint_dir(4) / layout.TRAINING_STATE
    assert (state / ".metadata").exists() == (first > 1)
    launch(train_until, config(tmp_path, text, **SHORT, **(sharded if then > 1 else {})), world=then)
    close(tmp_path / "tiny", undisturbed(**SHORT))
    assert verify_run(tmp_path / "tiny").sound


def close(run_dir, other):
    """Float32 sums in another order; AdamW turns rounding in tiny gradients into a part of the rate's steps."""
    moved = sum(row["lr"] for row in logged(other) if "lr" in row)
    assert largest_difference(weights(run_dir, 6), weights(other, 6)) <= moved / 256
    for row, expected in zip(logged(run_dir), logged(other), strict=True):
        assert row["batch_sha256"] == expected["batch_sha256"] and row.get("lr") == expected.get("lr")
        assert_close(row["loss"], expected["loss"], factor=64, dtype=torch.float32)
        assert_close(row["grad_norm"], expected["grad_norm"], factor=1024, dtype=torch.float32)


def test_each_part_has_its_own_schedule_and_what_is_sealed_stays(text, tmp_path):
    """Weights at 2, 4 …; state at 5, 10; captures at 0, 7: a crash goes back to 10, and 12 is not written anew."""
    settings = config(
        tmp_path,
        text,
        checkpoint__weights={"early": None, "every": 2, "last": False},
        checkpoint__training_state={"early": None, "every": 5, "last": False},
        checkpoint__captures={"early": 0, "every": 7, "last": False},
    )
    launch(train_until, settings)
    run_dir = tmp_path / "tiny"
    holds = {step: documents.read_checkpoint(run_dir / layout.checkpoint_dir(step)) for step in sealed(run_dir)}
    assert sorted(holds) == [0, 2, 4, 5, 6, 7, 8, 10, 12, 14]
    assert [step for step in holds if has_training_state(holds[step])] == [5, 10]
    assert [step for step in holds if holds[step].captures] == [0, 7, 14]
    shutil.rmtree(run_dir / layout.checkpoint_dir(14))
    before = {path: path.stat().st_mtime_ns for path in (run_dir / layout.CHECKPOINTS).rglob("*")}
    first = logged(run_dir)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        launch(train_until, settings)
    assert {path: path.stat().st_mtime_ns for path in before if path != run_dir / layout.CHECKPOINTS} == {
        path: moment for path, moment in before.items() if path != run_dir / layout.CHECKPOINTS
    }
    assert logged(run_dir) == first and sealed(run_dir)[-1] == 14


def test_old_training_states_go_as_the_policy_says_and_the_run_still_resumes(text, tmp_path, undisturbed):
    settings = config(tmp_path, text, checkpoint__keep={"last": 1, "every": 6})
    assert launch(train_until, settings, 11) == [143]
    assert launch(train_until, settings) == [0]
    run_dir = tmp_path / "tiny"
    report = verify_run(run_dir)
    assert report.sound and report.pruned == [3, 9, 11]
    for step in (0, 6, 12, 14):
        assert as_text(what_a_step_holds(run_dir, step)) == as_text(what_a_step_holds(undisturbed(), step)), step


def test_a_changed_configuration_is_refused_naming_the_fields(text, tmp_path, undisturbed):
    run_dir = clone(undisturbed(), tmp_path / "tiny")
    shutil.rmtree(run_dir / layout.checkpoint_dir(14))
    changed = {"training__optimizer__lr": 1e-3, "captures__sites": ["attn.q"], "training__max_steps": 15}
    before = documents.read_run(run_dir)
    (answer,) = launch(train_again, config(tmp_path, text, **changed))
    assert answer.startswith("ConfigError") and "training.optimizer.lr was 0.003, is now 0.001" in answer
    assert "captures.sites" in answer and "max_steps" not in answer
    refused = documents.read_run(run_dir)
    assert (refused.config, refused.changes) == (before.config, ())
    assert launch(train_again, config(tmp_path, text, **changed), True) == [""]
    recorded = {item.field: (item.step, item.before, item.after) for item in documents.read_run(run_dir).changes}
    assert recorded["training.optimizer.lr"] == (12, 0.003, 0.001)
    assert recorded["training.max_steps"] == (12, 14, 15)
    assert sealed(run_dir)[-1] == 15


def test_a_longer_run_goes_on_where_it_ended(text, tmp_path, undisturbed):
    run_dir = clone(undisturbed(), tmp_path / "tiny")
    assert launch(train_again, config(tmp_path, text, training__max_steps=16, monitoring__log_every=5)) == [""]
    assert sealed(run_dir)[-1] == 16
    assert [change.field for change in documents.read_run(run_dir).changes] == [
        "training.max_steps",
        "monitoring.log_every",
    ]


@pytest.mark.parametrize("name, code", [("SIGINT", 130), ("SIGTERM", 143), ("SIGUSR1", 138)])
def test_a_signal_finishes_the_step_and_saves(text, tmp_path, name, code):
    assert launch(train_until, config(tmp_path, text), 4, getattr(signal, name)) == [code]
    newest = resume.newest_complete(tmp_path / "tiny")
    assert newest is not None and newest.step == 4
    assert [row["step"] for row in metrics_log.read(tmp_path / "tiny" / layout.METRICS_LOG)] == [0, 1, 2, 3]


def test_slurms_signal_puts_the_job_back_into_the_queue_after_the_save(text, tmp_path):
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" $(ls {tmp_path}/tiny/checkpoints) > {tmp_path}/asked\n')
    scontrol.chmod(0o755)
    job = {"SLURM_JOB_ID": "123", "PATH": f"{scontrol.parent}:{os.environ['PATH']}"}
    assert launch(train_until, config(tmp_path, text), 4, signal.SIGUSR1, environment=job) == [138]
    assert (tmp_path / "asked").read_text().split() == [
        "requeue",
        "123",
        "step-00000000",
        "step-00000003",
        "step-00000004",
    ]


def test_a_second_signal_during_the_save_ends_at_once_and_nothing_sealed_is_lost(text, tmp_path, undisturbed):
    settings = config(tmp_path, text)
    process, _ = start(train_until_and_insist, settings, 4)
    process.join(60)
    assert process.exitcode == 143, "the first signal decides"
    assert list((tmp_path / "tiny" / layout.CHECKPOINTS).glob(".tmp-*")), "it was in the middle of the save"
    newest = resume.newest_complete(tmp_path / "tiny")
    assert newest is not None and newest.step == 3
    assert launch(train_until, settings) == [0]
    same_to_the_last_bit(tmp_path / "tiny", undisturbed())
    assert verify_run(tmp_path / "tiny").sound


@pytest.mark.parametrize("name, code", [("SIGINT", 130), ("SIGTERM", 143)])
def test_the_command_ends_with_the_signals_exit_code(text, tmp_path, name, code):
    process, _ = start(command_line, config(tmp_path, text, training__max_steps=5000))
    log = tmp_path / "tiny" / layout.METRICS_LOG
    deadline = time.monotonic() + 60
    while _lines(log) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, getattr(signal, name))
    process.join(60)
    assert process.exitcode == code
    newest = resume.newest_complete(tmp_path / "tiny")
    steps = [row["step"] for row in metrics_log.read(log)]
    assert newest is not None and newest.step == steps[-1] + 1 and steps == list(range(newest.step))


@pytest.mark.parametrize("name, code", [("SIGTERM", 143), ("SIGUSR1", 138)])
def test_all_processes_stop_where_one_gets_the_signal(text, tmp_path, name, code):
    assert launch(train_until, config(tmp_path, text), 4, getattr(signal, name), 1, world=2) == [code, code]
    newest = resume.newest_complete(tmp_path / "tiny")
    assert newest is not None and newest.step == 4


def test_killed_five_times_at_random_the_run_ends_with_the_same_weights(text, tmp_path, undisturbed):
    """SIGKILL at random moments of the run, whatever it is doing; each time the same command goes on."""
    chance = random.Random(7)
    longer = {"training__max_steps": 36}
    settings = config(tmp_path, text, **longer)
    log = tmp_path / "tiny" / layout.METRICS_LOG
    kills = 0
    while kills < 5:
        process, _ = start(train_until, settings)
        wanted = chance.randint(1, 4)
        seen = _lines(log)
        deadline = time.monotonic() + 60
        while process.is_alive() and _lines(log) - seen < wanted and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(chance.random() * 0.03)
        assert process.is_alive(), "the run ended before it could be killed"
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        kills += 1
    assert launch(train_until, settings) == [0]
    same_to_the_last_bit(tmp_path / "tiny", undisturbed(**longer), steps=range(0, 37, 3))
    assert verify_run(tmp_path / "tiny").sound


def _lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0
