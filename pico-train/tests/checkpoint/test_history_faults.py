"""Whatever happens while steps are set aside, taken back or repaired, nothing is lost, and doing it again ends alike.

As in `test_faults.py`: each call to the disk is made to kill in turn, to fail, or to be the last before a power cut.
"""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from support import PROGRAMS
from support.disks import CountingDisk, ForgetfulDisk, RefusingDisk
from support.kill_every_call import ACTIONS
from support.small_run import begin, clone, contents, digest_tree, evaluate

from pico_schema import documents, layout
from pico_train.checkpoint import losses, metrics_log, resume, set_aside
from pico_train.checkpoint.metrics_log import MetricsLog
from pico_train.checkpoint.repair import repair_run
from pico_train.checkpoint.verify import verify_run
from pico_train.checkpoint.writer import CheckpointWriter
from pico_train.config import RunConfig, layers
from pico_train.errors import StorageError

STEPS = (0, 1, 2, 3)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A run with four checkpoints, the last two evaluated, and a line for each step."""
    run_dir = begin(tmp_path_factory.mktemp("base") / "run")
    settings = RunConfig.model_validate(
        {
            "name": "small",
            "seed": 1,
            "model": {"d_model": 8, "n_layers": 1, "n_heads": 2, "n_kv_heads": 1, "d_ff": 12, "vocab_size": 40},
            "data": {"seq_len": 4},
            "training": {"batch_size": 2, "max_steps": 9, "schedule": {"warmup_steps": 1}},
            "monitoring": {"log_every": 1},
        }
    )
    (run_dir / layout.RUN_CONFIG).write_text(layers.to_yaml(settings), encoding="utf-8")
    run = documents.read_run(run_dir).model_copy(update={"config": settings.model_dump(mode="json")})
    documents.write(run_dir / layout.RUN_MANIFEST, run)
    log = MetricsLog(run_dir / layout.METRICS_LOG)
    with CheckpointWriter(run_dir, metrics_log=log) as writer:
        for step in STEPS:
            writer.save(contents(step, training_state=step < 2))
            log.append({"step": step, "loss": 1.5})
            if step > 1:
                evaluate(run_dir, step)
    log.close()
    assert verify_run(run_dir).sound
    return run_dir


@pytest.fixture(scope="module")
def went_back(base, tmp_path_factory):
    """The run, having set steps 2 and 3 aside."""
    run_dir = clone(base, tmp_path_factory.mktemp("back") / "run")
    set_aside.put_aside_after(run_dir, 1, reason="the run went on from step 1")
    MetricsLog(run_dir / layout.METRICS_LOG).append({"step": 1, "loss": 1.5})
    return run_dir


@pytest.fixture(scope="module")
def without_run_json(base, tmp_path_factory):
    """Neither run.json nor the tokenizer of step 2."""
    run_dir = clone(base, tmp_path_factory.mktemp("gone") / "run")
    (run_dir / layout.RUN_MANIFEST).unlink()
    (run_dir / layout.checkpoint_dir(2) / layout.TOKENIZER).unlink()
    return run_dir


@pytest.fixture(scope="module")
def with_losses(base, tmp_path_factory):
    """Step 1 is gone, the weights of step 2 are, and a line of the log."""
    run_dir = clone(base, tmp_path_factory.mktemp("losses") / "run")
    for path in sorted((run_dir / layout.checkpoint_dir(1)).rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (run_dir / layout.checkpoint_dir(1)).rmdir()
    (run_dir / layout.checkpoint_dir(2) / layout.WEIGHTS).unlink()
    lines = (run_dir / layout.METRICS_LOG).read_bytes().splitlines(keepends=True)
    (run_dir / layout.METRICS_LOG).write_bytes(b"".join(lines[1:]))
    return run_dir


@pytest.fixture
def before(base, went_back, without_run_json, with_losses):
    """The run as each action finds it."""
    return {"put_aside": base, "take_back": went_back, "repair": without_run_json, "accept": with_losses}


def everything(run_dir: Path) -> set[str]:
    """Digests of all contents under a run that training made: wherever they lie."""
    own = (layout.RUN_MANIFEST, layout.SET_ASIDE_NOTE, losses.ACCEPTED, layout.METRICS_LOG, ".lock")
    found = digest_tree(run_dir)
    return {digest for name, digest in found.items() if Path(name).name not in own and not name.endswith("/")}


def rows(run_dir: Path) -> set[bytes]:
    """All lines of the log, in place or set aside."""
    return {line for path in run_dir.rglob(layout.METRICS_LOG) for line in path.read_bytes().splitlines()}


def history(run_dir: Path) -> dict[str, str]:
    """What counts as the run: its files but for what was set aside and what was noted with the time of day."""
    aside = f"{layout.CHECKPOINTS}/{layout.SET_ASIDE}"
    return {
        name: digest
        for name, digest in digest_tree(run_dir).items()
        if not name.startswith(aside) and name not in (".lock", losses.ACCEPTED)
    }


def again(what: str, run_dir: Path) -> None:
    """What the next command does: it tidies up and does the same."""
    if what in ("put_aside", "take_back"):
        resume.reconcile(run_dir)
    if what == "take_back":
        with CheckpointWriter(run_dir) as writer:
            writer.save(contents(2, training_state=False))
    else:
        ACTIONS[what](run_dir, CountingDisk())


def check(what: str, run_dir: Path, start: Path, end: dict[str, str]) -> None:
    """A run in which something was interrupted: nothing is lost, and doing it again ends as if nothing had happened."""
    assert everything(start) <= everything(run_dir), "content is gone"
    assert rows(start) <= rows(run_dir), "lines are gone"
    again(what, run_dir)
    assert history(run_dir) == end
    assert everything(start) <= everything(run_dir) and rows(start) <= rows(run_dir)
    if what == "put_aside":
        assert {step for item in set_aside.listed(run_dir) for step in item.checkpoints} == {2, 3}


@pytest.mark.parametrize("what", ["put_aside", "take_back", "repair", "accept"])
def test_killed_at_any_call_nothing_is_lost_and_the_next_command_ends_it(before, tmp_path, what):
    work = tmp_path / "work"
    work.mkdir()
    program = PROGRAMS / "kill_every_call.py"
    done = subprocess.run(
        [sys.executable, str(program), str(before[what]), str(work), what], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    calls = json.loads(done.stdout)
    assert len(calls) >= {"put_aside": 30, "take_back": 10, "repair": 10, "accept": 25}[what], calls
    end = history(work / "undisturbed")
    assert verify_run(work / "undisturbed").sound
    for n in range(1, len(calls) + 1):
        for how in ("whole", "torn"):
            if (run_dir := work / f"{n}-{how}").exists():
                check(what, run_dir, before[what], end)


@pytest.mark.parametrize(
    "what, number",
    [("put_aside", errno.ENOSPC), ("put_aside", errno.EIO), ("repair", errno.EIO), ("accept", errno.ENOSPC)],
)
def test_a_refused_call_is_an_error_that_loses_nothing(before, tmp_path, what, number):
    counting = CountingDisk()
    ACTIONS[what](clone(before[what], tmp_path / "undisturbed"), counting)
    end = history(tmp_path / "undisturbed")
    for n, call in enumerate(counting.calls, start=1):
        run_dir = clone(before[what], tmp_path / f"run-{n}")
        # `begin` of a run turns what setting aside raises into a StorageError, as it does with all it writes
        with pytest.raises(OSError if what == "put_aside" else StorageError) as caught:
            ACTIONS[what](run_dir, RefusingDisk(n, number, persistent=False))
        if what != "put_aside":
            assert f"{run_dir}: cannot be written" in str(caught.value), call
        assert list(run_dir.rglob(".*.tmp")) == [], call
        check(what, run_dir, before[what], end)


@pytest.mark.parametrize("what", ["put_aside", "take_back", "accept"])
def test_a_power_cut_at_any_moment_loses_nothing(before, tmp_path, what):
    """A rename between two directories is one change of the file system: it happened, or it did not."""
    work = clone(before[what], tmp_path / "run")
    undisturbed = clone(before[what], tmp_path / "undisturbed")
    ACTIONS[what](undisturbed, CountingDisk())
    end, count = history(undisturbed), 0

    def cut(disk: ForgetfulDisk) -> None:
        nonlocal count
        for how in ("least", "names"):
            count += 1
            check(what, disk.after_power_cut(tmp_path / f"cut-{count}", how), before[what], end)

    ACTIONS[what](work, ForgetfulDisk(work, after=cut))
    assert count >= 20


def test_the_suite_notices_an_index_that_forgets_and_a_log_that_is_cut_first(base, tmp_path):
    """The checks above can fail: each is shown a directory that lost something."""
    undisturbed = clone(base, tmp_path / "undisturbed")
    ACTIONS["put_aside"](undisturbed, CountingDisk())
    broken: list[Callable[[Path], object]] = [
        lambda run: metrics_log.cut(run / layout.METRICS_LOG, first_dropped=1),
        lambda run: (run / layout.checkpoint_dir(3) / layout.WEIGHTS).unlink(),
        lambda run: (run / layout.evaluation_file(2)).unlink(),
    ]
    for number, damage in enumerate(broken):
        run_dir = clone(base, tmp_path / str(number))
        damage(run_dir)
        with warnings.catch_warnings(), pytest.raises(AssertionError):
            warnings.simplefilter("ignore")
            check("put_aside", run_dir, base, history(undisturbed))


def test_what_repair_rebuilt_is_what_was_lost(without_run_json, base, tmp_path):
    run_dir = clone(without_run_json, tmp_path / "run")
    report = repair_run(run_dir)
    assert report.sound and len(report.rebuilt) == 2
    assert documents.read_run(run_dir).checkpoints == documents.read_run(base).checkpoints
    assert digest_tree(run_dir / layout.CHECKPOINTS) == digest_tree(base / layout.CHECKPOINTS)
