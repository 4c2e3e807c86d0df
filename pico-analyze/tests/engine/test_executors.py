"""Threads, processes and shards give the same rows; what dies costs a task."""

import os
import shutil
import signal
import threading
from dataclasses import replace

import numpy as np
import psutil
import pytest
from dask_cluster import wait_for
from synthetic import make_run
from threadpoolctl import threadpool_info

import pico_analyze
from pico_analyze.engine import executors
from pico_analyze.engine.pipeline import analyze
from pico_analyze.engine.settings import Settings, Silence
from pico_analyze.engine.tasks import Shard
from pico_analyze.errors import DataError, StorageError, UsageError, WorkerError
from pico_analyze.questions.question import Question, Use
from pico_analyze.table.store import PARTS, ROWS

OV = Use("ov_circuit")
QUESTIONS = (
    Question((Use("cka"), Use("procrustes")), component=OV),
    Question((Use("per"), Use("gini")), component=OV, data="weights", split=None),
    Question((Use("cka"),), bootstrap=20, null="permutation", draws=9, sites=("attn.o",)),
)


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(out=tmp_path / "analysis", threads=1)


def asked(run):
    return [(run, question) for question in QUESTIONS]


@pytest.fixture(scope="module")
def alone(run_dir, tmp_path_factory):
    """The rows as one thread computes them."""
    return analyze(asked(run_dir), Settings(out=tmp_path_factory.mktemp("alone"), threads=1)).frame


@pytest.mark.parametrize("how", [{"threads": 2}, {"threads": 5}, {"jobs": 2}, {"jobs": 3}])
def test_rows_are_the_same_bit_for_bit_wherever_they_are_computed(run_dir, settings, alone, how):
    assert analyze(asked(run_dir), replace(settings, **how)).frame.equals(alone)


@pytest.mark.parametrize("how", [{"threads": 2}, {"jobs": 2}])
def test_without_a_directory_nothing_is_written_and_the_rows_are_the_same(run_dir, alone, how, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = analyze(asked(run_dir), Settings(**how))
    assert outcome.frame.equals(alone) and outcome.directories == {}
    assert list(tmp_path.iterdir()) == []


def test_shards_without_any_coordination_give_the_table(run_dir, settings, alone):
    outcomes = [analyze(asked(run_dir), replace(settings, shard=Shard(i, 3))) for i in (2, 3, 1)]
    directory = settings.out / "demo"
    assert not (directory / ROWS).exists()  # each leaves parts, none merges
    assert sum(outcome.new_rows for outcome in outcomes) == len(alone)
    together = analyze(asked(run_dir), settings)
    assert together.computed == 0 and together.frame.equals(alone)
    assert (directory / ROWS).exists() and not list((directory / PARTS).iterdir())


def test_shards_of_a_plan_are_the_same_whatever_is_computed_already(run_dir, settings, alone):
    analyze(asked(run_dir), replace(settings, shard=Shard(1, 2)))
    again = analyze(asked(run_dir), replace(settings, shard=Shard(1, 2)))
    assert again.computed == 0 and again.reused > 0
    second = analyze(asked(run_dir), replace(settings, shard=Shard(2, 2)))
    assert second.reused == 0
    assert analyze(asked(run_dir), settings).frame.equals(alone)


def test_a_shard_that_is_missing_is_computed_by_the_call_that_merges(run_dir, settings, alone):
    analyze(asked(run_dir), replace(settings, shard=Shard(1, 2)))
    outcome = analyze(asked(run_dir), settings)
    assert outcome.computed > 0 and outcome.reused > 0 and outcome.frame.equals(alone)


def test_shards_of_machines_without_a_shared_directory_are_brought_together_by_copying_parts(
    run_dir, settings, alone, tmp_path
):
    for index in (1, 2):
        analyze(asked(run_dir), replace(settings, out=tmp_path / f"machine{index}", shard=Shard(index, 2)))
    (settings.out / "demo").mkdir(parents=True)
    for index in (1, 2):
        parts = tmp_path / f"machine{index}" / "demo" / PARTS
        shutil.copytree(parts, settings.out / "demo" / PARTS, dirs_exist_ok=True)
    together = analyze(asked(run_dir), settings)
    assert together.computed == 0 and together.frame.equals(alone)


def test_a_shard_without_a_task_is_empty(run_dir, settings, alone):
    outcomes = [analyze(asked(run_dir), replace(settings, shard=Shard(i, 90))) for i in range(1, 91)]
    assert 0 in [len(outcome.frame) for outcome in outcomes]
    together = analyze(asked(run_dir), settings)
    assert together.computed == 0 and together.frame.equals(alone)


def test_a_table_that_is_parts_of_shards_only_says_so(run_dir, settings):
    analyze(asked(run_dir), replace(settings, shard=Shard(1, 2)))
    with pytest.raises(DataError, match="parts of shards only: the same call without a shard"):
        pico_analyze.read_rows(settings.out / "demo")


def test_a_shard_needs_a_directory():
    with pytest.raises(UsageError, match="a shard without a directory"):
        Settings(shard=Shard(1, 2))


@pytest.fixture(scope="module")
def slow_run(tmp_path_factory):
    """A run on which SLOW takes some seconds."""
    return make_run(tmp_path_factory.mktemp("slow") / "runs", "slow")


SLOW = Question((Use("cka"),), component=OV, bootstrap=80)


@pytest.fixture(scope="module")
def slow_rows(slow_run, tmp_path_factory):
    """What SLOW gives where nothing goes wrong."""
    return analyze([(slow_run, SLOW)], Settings(out=tmp_path_factory.mktemp("expected"))).frame


class _At(Silence):
    """Calls `what` once so many tasks are done."""

    def __init__(self, after, what):
        self.left, self.what = after, what

    def advanced(self, tasks):
        self.left -= tasks
        if self.left <= 0 and self.what is not None:
            what, self.what = self.what, None
            what()


def _children():
    return [child for child in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(child.cmdline())]


def test_a_worker_process_that_is_killed_costs_its_task_alone(slow_run, slow_rows, settings):
    killed = []

    def kill():
        directory = settings.out / "slow" / PARTS
        wait_for(lambda: list(directory.glob("*.parquet")))
        child = _children()[0]
        killed.append(child.pid)
        os.kill(child.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    outcome = analyze([(slow_run, SLOW)], replace(settings, jobs=2))
    killer.join()
    assert killed and outcome.frame.equals(slow_rows)


def test_worker_processes_that_keep_dying_are_an_error_and_what_is_done_is_kept(
    slow_run, slow_rows, settings, monkeypatch
):
    monkeypatch.setattr(executors, "_RESTARTS", 0)

    def kill():
        wait_for(lambda: list((settings.out / "slow" / PARTS).glob("*.parquet")))
        os.kill(_children()[0].pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(WorkerError, match=r"worker processes were killed 1 time .* of 10 tasks done and kept"):
        analyze([(slow_run, SLOW)], replace(settings, jobs=2))
    killer.join()
    rest = analyze([(slow_run, SLOW)], settings)
    assert rest.reused >= 1 and rest.computed < 10 and rest.frame.equals(slow_rows)


def test_what_a_worker_cannot_write_the_command_writes(run_dir, settings, alone, monkeypatch):
    from pico_analyze.table import store

    real, refused = store.write_part, []

    def full_disk(directory, name, content):
        if threading.current_thread() is not threading.main_thread():
            refused.append(name)
            raise StorageError(f"{directory / name}: cannot be written (No space left on device)")
        real(directory, name, content)

    monkeypatch.setattr(store, "write_part", full_disk)
    outcome = analyze(asked(run_dir), replace(settings, threads=2))
    assert refused and outcome.frame.equals(alone)


def test_a_disk_that_is_full_for_all_ends_the_analysis_and_the_next_call_completes_it(
    run_dir, settings, alone, monkeypatch
):
    from pico_analyze.engine import pipeline
    from pico_analyze.table import store

    real, written = store.write_part, []

    def full_after_three(directory, name, content):
        if len(written) >= 3:
            raise StorageError(f"{directory / name}: cannot be written (No space left on device): check the disk")
        written.append(name)
        real(directory, name, content)

    for module in (store, pipeline):
        monkeypatch.setattr(module, "write_part", full_after_three)
    with pytest.raises(StorageError, match="No space left"):
        analyze(asked(run_dir), settings)
    monkeypatch.undo()
    rest = analyze(asked(run_dir), settings)
    assert rest.reused > 0 and rest.computed > 0 and rest.frame.equals(alone)


def test_damage_in_a_run_ends_the_analysis_wherever_it_is_found(runs, settings):
    run = make_run(runs)
    path = next(run.glob("checkpoints/step-00000004/captures/val.safetensors"))
    path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])  # a header of 2^64 bytes
    for how in ({"threads": 2}, {"jobs": 2}):
        with pytest.raises(DataError):
            analyze([(run, Question((Use("cka"),)))], replace(settings, **how))


def test_what_is_still_being_computed_when_a_command_is_interrupted_is_not_waited_for_and_leaves_nothing(
    run_dir, settings, monkeypatch
):
    """BLAS has its threads back by then, and values depend on their number."""
    from pico_analyze.engine import compute, worker

    real, first, release, held = compute.measure, [], threading.Event(), threading.Event()
    keep, kept = worker._keep, []
    monkeypatch.setattr(worker, "_keep", lambda *words: kept.append(threading.current_thread()) or keep(*words))

    def measure(*words):
        if not first or first[0] is threading.current_thread():
            first.append(threading.current_thread())
            held.wait(30)  # so that both are at work
        else:
            held.set()
            release.wait(30)
        return real(*words)

    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(compute, "measure", measure)
    with pytest.raises(KeyboardInterrupt):
        analyze([(run_dir, Question((Use("cka"),)))], replace(settings, threads=2), _At(1, interrupt))
    at_work = [thread for thread in threading.enumerate() if thread.name.startswith("pico-analyze")]
    assert at_work  # not waited for
    release.set()
    for thread in at_work:
        thread.join(30)
    assert set(kept) == {first[0]}
    assert not list((settings.out / "demo" / PARTS).iterdir())


def test_blas_has_one_thread_while_tasks_run_and_what_it_had_afterwards(run_dir):
    np.ones((4, 4)) @ np.ones((4, 4))

    def blas():
        return {info["filepath"]: info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"}

    seen = []

    class Look(Silence):
        def advanced(self, _):
            seen.append(blas())

    from threadpoolctl import threadpool_limits

    with threadpool_limits(2, user_api="blas"):
        before = blas()
        assert set(before.values()) == {2}
        analyze([(run_dir, Question((Use("cka"),)))], Settings(threads=2), Look())
        assert blas() == before
    assert seen and all(set(threads.values()) == {1} for threads in seen)


def test_worker_processes_have_one_blas_thread_too(run_dir):
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    from blas_threads import after_a_batch

    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        assert set(pool.submit(after_a_batch, str(run_dir)).result()) == {1}
