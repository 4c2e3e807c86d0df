"""What was acknowledged is there after a power cut, and in the documented order.

`test_faults.py` and `test_history_faults.py` cut, kill and refuse at every call; here each thing is done once.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.disks import CountingDisk, ForgetfulDisk
from support.small_run import WHEN, begin, clone, contents, digest_tree, evaluate

from pico_schema import documents, layout
from pico_train.checkpoint import losses, resume, set_aside
from pico_train.checkpoint.losses import Loss
from pico_train.checkpoint.metrics_log import MetricsLog
from pico_train.checkpoint.writer import CheckpointWriter


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Checkpoints 0 to 3, the last two evaluated, a line for each, and an evaluation of a step that is gone."""
    run_dir = begin(tmp_path_factory.mktemp("base") / "run")
    with CheckpointWriter(run_dir) as writer:
        for step in range(4):
            writer.save(contents(step, training_state=False))
    for step in (2, 3):
        evaluate(run_dir, step)
    evaluate(run_dir, 5, manifest_sha256="d" * 64)
    (run_dir / layout.METRICS_LOG).write_text("".join(f'{{"step": {step}}}\n' for step in range(4)))
    return run_dir


@pytest.fixture
def run_dir(base, tmp_path):
    return clone(base, tmp_path / "run")


def save(run_dir, disk):
    log = MetricsLog(run_dir / layout.METRICS_LOG, disk=disk)
    log.append({"step": 4})
    CheckpointWriter(run_dir, disk=disk, metrics_log=log).save(contents(4))


def save_shards(run_dir, disk):
    """As several processes do: each writes its part when it is told where."""

    def write(path: Path | None) -> None:
        assert path is not None
        for name in ("a", "b"):
            handle = disk.open(path / name)
            disk.write(handle, memoryview(name.encode()))
            disk.fsync(handle)
            disk.close(handle)

    CheckpointWriter(run_dir, disk=disk).save(replace(contents(4), training_state=write))


def put_aside(run_dir, disk):
    set_aside.put_aside_after(run_dir, 1, reason="the run went on from step 1", disk=disk)


def put_step_aside(run_dir, disk):
    set_aside.put_step_aside(run_dir, 3, reason="step 3 is damaged", disk=disk)


def put_file_aside(run_dir, disk):
    set_aside.put_file_aside(run_dir, layout.RUN_MANIFEST, reason="it was rebuilt", disk=disk)


def take_back(run_dir, disk):
    set_aside.take_back(run_dir, set_aside.root(run_dir) / "0001" / layout.checkpoint_dir(2), disk=disk)


def seal_again(run_dir, disk):
    CheckpointWriter(run_dir, disk=disk).save(contents(2, training_state=False))


def accept(run_dir, disk):
    losses.accept(run_dir, [Loss(9, "", "step 9 is gone")], when=WHEN, disk=disk)


def tidy_up(run_dir, disk):
    resume.reconcile(run_dir, disk=disk)


def gone_back(run_dir):
    set_aside.put_aside_after(run_dir, 1, reason="the run went on from step 1")


def not_listed(run_dir):
    run = documents.read_run(run_dir)
    documents.write(run_dir / layout.RUN_MANIFEST, run.model_copy(update={"checkpoints": run.checkpoints[:3]}))


ACTIONS = [
    (save, None), (save_shards, None), (put_aside, None), (put_step_aside, None), (put_file_aside, None),
    (take_back, gone_back), (seal_again, gone_back), (accept, None), (tidy_up, not_listed),
]  # fmt: skip


@pytest.mark.parametrize(("action", "before"), ACTIONS, ids=lambda each: getattr(each, "__name__", ""))
def test_what_was_done_is_there_after_a_power_cut(run_dir, tmp_path, action, before):
    """On a disk that keeps what was synced and nothing else."""
    if before is not None:
        before(run_dir)
    start, disk = digest_tree(run_dir), ForgetfulDisk(run_dir)
    action(run_dir, disk)
    after = digest_tree(run_dir)
    assert after != start and digest_tree(disk.after_power_cut(tmp_path / "cut", "least")) == after


@pytest.mark.parametrize("how", ["least", "names"])
def test_a_power_cut_in_a_save_leaves_what_was_sealed_before_and_no_half_of_it(tmp_path, how):
    found = []
    run_dir = begin(tmp_path / "run")
    CheckpointWriter(run_dir).save(contents(3, training_state=False))

    def cut(disk: ForgetfulDisk) -> None:
        left = disk.after_power_cut(tmp_path / f"cut-{len(found)}", how)
        resume.reconcile(left)
        sealed = resume.newest_complete(left, training_state=False)
        assert sealed is not None
        found.append(sealed.step)

    save(run_dir, ForgetfulDisk(run_dir, after=cut))
    assert found == sorted(found) and set(found) == {3, 4}


@pytest.mark.parametrize("how", ["least", "names"])
@pytest.mark.parametrize(("action", "before"), [(put_aside, None), (seal_again, gone_back)])
def test_a_power_cut_on_the_way_aside_or_back_loses_nothing(run_dir, tmp_path, action, before, how):
    """Whatever stood in a checkpoint or an evaluation stands somewhere, and each line of the log."""
    if before is not None:
        before(run_dir)
    count = 0

    def held(root: Path) -> set[bytes]:
        files = [path for path in root.rglob("*") if path.is_file() and path.name not in OWN]
        return {path.read_bytes() for path in files} | {
            line for path in root.rglob(layout.METRICS_LOG) for line in path.read_bytes().splitlines()
        }

    def cut(disk: ForgetfulDisk) -> None:
        nonlocal count
        count += 1
        left = disk.after_power_cut(tmp_path / f"cut-{count}", how)
        assert start <= held(left), disk.calls

    start = held(run_dir)
    action(run_dir, ForgetfulDisk(run_dir, after=cut))
    assert count > 5


OWN = (layout.RUN_MANIFEST, layout.METRICS_LOG, layout.SET_ASIDE_NOTE)
"""Files that are written anew."""


def test_the_order_of_setting_aside(run_dir):
    """The note; the index; the directories, the last step first; evaluations; the log's lines, then the log."""
    disk = CountingDisk()
    put_aside(run_dir, disk)
    moved = [call.removeprefix("rename ") for call in disk.calls if call.startswith("rename ")]
    step = layout.step_dir
    evaluations = [f"{step(number)}.json" for number in (2, 3, 5)]
    assert [name for name in moved if name not in evaluations] == [
        "note.json", "run.json", step(3), step(2), "metrics.jsonl", "metrics.jsonl",
    ]  # fmt: skip
    assert sorted(name for name in moved if name in evaluations) == evaluations
