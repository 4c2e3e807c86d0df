"""Whatever happens while a checkpoint is saved, what is found afterwards is the old one or the new one, whole.

In the spirit of SQLite's tests (https://www.sqlite.org/testing.html, sections 3.2 and 3.3): every call that the writer
makes to its disk is made to kill, fail or be forgotten in turn.

How N is thinned: after a fault, `reconcile` brings the run's directory to one of two states, byte for byte that
before the save or that after it; each N asserts which. That training goes on from either as if nothing had happened
is then shown once per state, in `test_run.py`, not once per N.
"""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from support import PROGRAMS
from support.disks import CountingDisk, ForgetfulDisk, RefusingDisk
from support.small_run import begin, clone, contents, digest_tree

from pico_schema import documents, layout
from pico_train.checkpoint import metrics_log, resume, set_aside
from pico_train.checkpoint.metrics_log import MetricsLog
from pico_train.checkpoint.writer import CheckpointWriter
from pico_train.errors import StorageError

BUFFER = 256
OLD, NEW = 1, 2


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A run with one checkpoint, at step 1."""
    run_dir = begin(tmp_path_factory.mktemp("base") / "run")
    MetricsLog(run_dir / layout.METRICS_LOG).append({"step": 0, "loss": 3.0})
    with CheckpointWriter(run_dir) as writer:
        writer.save(contents(OLD))
    return run_dir


def state_of(run_dir: Path) -> dict[str, str]:
    """The run's files, without the log (which may be ahead of the checkpoints)."""
    return {name: digest for name, digest in digest_tree(run_dir).items() if name != layout.METRICS_LOG}


@pytest.fixture(scope="module")
def references(base, tmp_path_factory):
    """The two states that may be found: before and after step 2 was saved."""
    after = clone(base, tmp_path_factory.mktemp("after") / "run")
    with CheckpointWriter(after) as writer:
        writer.save(contents(NEW))
    return {OLD: state_of(base), NEW: state_of(after)}


def recovered(run_dir: Path, references: dict[int, dict[str, str]]) -> int:
    """The step a restarted run finds; its directory is checked to be exactly one of the two states."""
    resume.reconcile(run_dir)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # neither state is damaged, so nothing is to be warned of
        found = resume.newest_complete(run_dir)
    assert found is not None
    assert state_of(run_dir) == references[found.step]
    lines = [row["step"] for row in metrics_log.read(run_dir / layout.METRICS_LOG)]
    assert lines == list(range(len(lines)))
    assert len(lines) >= found.step, "a line that leads to the checkpoint is gone"
    return found.step


def test_killed_at_any_call_leaves_the_old_or_the_new_checkpoint(base, tmp_path):
    """SIGKILL at call N, for every N; writes also in their middle; with an older training state to prune at the end."""
    work = tmp_path / "work"
    work.mkdir()
    program = PROGRAMS / "kill_every_call.py"
    done = subprocess.run(
        [sys.executable, str(program), str(base), str(work), "save"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    calls = json.loads(done.stdout)
    assert {call.split()[0] for call in calls} == {"mkdir", "open", "write", "fsync", "rename", "fsync-directory"}
    assert len(calls) >= 60

    references = {OLD: state_of(base), NEW: state_of(work / "undisturbed")}
    unpruned = {
        **references[NEW],
        **{name: digest for name, digest in references[OLD].items() if layout.TRAINING_STATE in name},
    }
    sealed_at = calls.index(f"rename {layout.step_dir(NEW)}") + 1
    for n in range(1, len(calls) + 1):
        for how in ("whole", "torn"):
            run_dir = work / f"{n}-{how}"
            if not run_dir.exists():
                assert how == "torn"
                continue
            resume.reconcile(run_dir)
            found = resume.newest_complete(run_dir)
            assert found is not None
            assert found.step == (OLD if n <= sealed_at else NEW), calls[n - 1]
            assert state_of(run_dir) in ([references[OLD]] if n <= sealed_at else [references[NEW], unpruned])
            lines = [row["step"] for row in metrics_log.read(run_dir / layout.METRICS_LOG)]
            assert lines == list(range(len(lines))) and len(lines) >= found.step


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("persistent", [False, True], ids=["transient", "persistent"])
def test_a_refused_call_is_a_loud_error_and_leaves_no_litter(base, references, tmp_path, number, persistent):
    counting = CountingDisk()
    with CheckpointWriter(clone(base, tmp_path / "count"), disk=counting, buffer=BUFFER) as writer:
        writer.save(contents(NEW))
    for n, call in enumerate(counting.calls, start=1):
        run_dir = clone(base, tmp_path / f"run-{n}")
        disk = RefusingDisk(n, number, persistent=persistent)
        writer = CheckpointWriter(run_dir, disk=disk, buffer=BUFFER)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(StorageError, match=r"step 2 .*earlier checkpoints are intact") as caught:
                writer.save(contents(NEW))
        assert isinstance(caught.value.__cause__, OSError) and caught.value.__cause__.errno == number, call
        assert disk.refused >= 1
        litter = [path for path in run_dir.rglob("*") if path.name.startswith(".")]
        assert litter == [], call
        (run_dir / layout.METRICS_LOG).write_bytes(b'{"step": 0}\n{"step": 1}\n')
        step = recovered(clone(run_dir, tmp_path / f"recovered-{n}"), references)
        assert step in (OLD, NEW)
        if not persistent:
            writer.save(contents(NEW))  # the disk works again: the same writer seals the same step
            assert state_of(run_dir) == references[NEW], call


def power_cuts(base: Path, tmp_path: Path, references, *, ignored: tuple[str, ...] = (), seeds: int = 3) -> int:
    """Save step 2 on a disk that forgets, cut the power after every call, and recover each time; returns how many."""
    run_dir = clone(base, tmp_path / "run")
    count = 0

    def cut(disk: ForgetfulDisk) -> None:
        nonlocal count
        for how, seed in [("least", 0), ("names", 0), *(("some", seed) for seed in range(seeds))]:
            count += 1
            recovered(disk.after_power_cut(tmp_path / f"cut-{count}", how, seed=seed + 1000 * count), references)

    disk = ForgetfulDisk(run_dir, ignored=ignored, after=cut)
    log = MetricsLog(run_dir / layout.METRICS_LOG, disk=disk)
    log.append({"step": 1, "loss": 2.0})
    writer = CheckpointWriter(run_dir, disk=disk, buffer=BUFFER, metrics_log=log)
    writer.save(contents(NEW))
    left = disk.after_power_cut(tmp_path / "end", "least")
    assert recovered(left, references) == NEW, "a save that was acknowledged is lost in a power cut"
    assert documents.read_run(left).checkpoints[-1].step == NEW
    return count


def test_a_power_cut_at_any_moment_leaves_the_old_or_the_new_checkpoint(base, references, tmp_path):
    """Unsynced content and names are dropped, or kept in part, after every call."""
    assert power_cuts(base, tmp_path, references) >= 300


@pytest.mark.parametrize("ignored", ["fsync", "fsync-directory"])
def test_the_power_cuts_notice_a_sync_that_is_left_out(base, references, tmp_path, ignored):
    with pytest.raises(AssertionError):
        try:
            power_cuts(base, tmp_path, references, ignored=(ignored,), seeds=0)
        except Exception as error:  # a document that was cut short is found out just as well
            raise AssertionError(str(error)) from error


def test_the_order_of_a_save(base, tmp_path):
    """Each file is synced before the rename, the manifest last; the parent directory and the index come after it."""
    disk = CountingDisk()
    with CheckpointWriter(clone(base, tmp_path / "run"), disk=disk) as writer:
        writer.save(contents(NEW))
    calls = disk.calls
    renamed = calls.index(f"rename {layout.step_dir(NEW)}")
    opened = [index for index, call in enumerate(calls) if call.startswith("open") and index < renamed]
    assert calls[opened[-1]] == f"open {layout.MANIFEST}"
    for first, following in zip(opened, [*opened[1:], renamed], strict=True):
        assert "fsync" in calls[first:following], calls[first]
    assert calls[renamed - 1] == f"fsync-directory .tmp-{layout.step_dir(NEW)}"
    assert calls[renamed + 1] == f"fsync-directory {layout.CHECKPOINTS}"
    index = calls.index(f"rename {layout.RUN_MANIFEST}")
    assert renamed < index and calls[index - 1] == "fsync" and calls[index + 1].startswith("fsync-directory")


FILES = sorted(
    [layout.MANIFEST, layout.WEIGHTS, layout.MODEL_CONFIG, layout.TOKENIZER, layout.TRAIN_BATCH,
     "training_state/state.ckpt", "captures/train.safetensors", "captures/val.safetensors"]
)  # fmt: skip


@pytest.fixture(scope="module")
def two(base, tmp_path_factory):
    run_dir = clone(base, tmp_path_factory.mktemp("two") / "run")
    with CheckpointWriter(run_dir) as writer:
        writer.save(contents(NEW))
    return run_dir


def test_the_list_of_files_is_complete(two):
    directory = two / layout.checkpoint_dir(NEW)
    assert sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()) == FILES


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["0", "1", "half", "n-1", "bit", "gone"])
def test_damage_to_any_file_is_found_and_the_run_falls_back(two, tmp_path, name, damage):
    from pico_train.checkpoint.verify import verify_run

    run_dir = clone(two, tmp_path / "run")
    path = run_dir / layout.checkpoint_dir(NEW) / name
    content = path.read_bytes()
    path.unlink()  # the clone shares its files: a new one takes the place
    if damage == "bit":
        changed = bytearray(content)
        changed[len(content) * 2 // 3] ^= 0b100
        path.write_bytes(changed)
    elif damage != "gone":
        path.write_bytes(content[: {"0": 0, "1": 1, "half": len(content) // 2, "n-1": len(content) - 1}[damage]])

    resume.reconcile(run_dir)
    with pytest.warns(RuntimeWarning, match=name.replace(".", r"\.")):
        found = resume.newest_complete(run_dir)
    assert found is not None and found.step == OLD

    problems = verify_run(run_dir).problems
    assert [(item.step, item.path) for item in problems] == [(NEW, name)]
    assert verify_run(run_dir, step=OLD).problems == []

    # Going on, the run comes to the damaged step again: it is put aside, never overwritten, and sealed anew.
    with pytest.warns(RuntimeWarning, match="damaged"), CheckpointWriter(run_dir) as writer:
        writer.save(contents(NEW))
    again = resume.newest_complete(run_dir)
    assert again is not None and again.step == NEW
    assert verify_run(run_dir).problems == []
    (moved,) = set_aside.listed(run_dir)
    assert (moved.checkpoints[NEW] / name).exists() == (damage != "gone")
