"""Dask: workers that are other processes, started as documented, killed and damaged for real."""

import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace

import damage
import pytest
from dask_cluster import Cluster, wait_for
from synthetic import make_run

from pico_analyze.engine import cluster as dask
from pico_analyze.engine.pipeline import analyze
from pico_analyze.engine.settings import Settings
from pico_analyze.errors import UsageError, WorkerError
from pico_analyze.questions.question import Question, Use
from pico_analyze.table.store import PARTS

OV = Use("ov_circuit")
QUESTIONS = (
    Question((Use("cka"), Use("procrustes")), component=OV),
    Question((Use("per"), Use("gini")), component=OV, data="weights", split=None),
)
SLOW = (Question((Use("cka"),), component=OV, bootstrap=80),)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Two workers that no test of this file damages for good."""
    with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        with cluster.client():
            pass
        yield cluster


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("here") / "runs")


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(out=tmp_path / "analysis", threads=1)


def asked(run, questions=QUESTIONS):
    return [(run, question) for question in questions]


def test_the_rows_are_those_of_one_thread_bit_for_bit(shared, run, settings, tmp_path):
    alone = analyze(asked(run), settings).frame
    outcome = analyze(asked(run), Settings(out=tmp_path / "dask", scheduler=shared.address))
    assert outcome.frame.equals(alone)
    assert outcome.tally.bytes_read > 0  # read by the workers, and told


def test_without_a_directory_rows_come_back_in_memory(shared, run, settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    alone = analyze(asked(run), settings).frame
    files = sorted(tmp_path.rglob("*"))
    assert analyze(asked(run), Settings(scheduler=shared.address)).frame.equals(alone)
    assert sorted(tmp_path.rglob("*")) == files


def test_the_command_line_computes_there_too(shared, run, tmp_path):
    words = ["compute", "cka", str(run), "--scheduler", shared.address, "--no-plot", "--out", str(tmp_path / "a")]
    code = "from pico_analyze.cli.app import main; main()"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "30 rows (30 new" in done.stderr and "distributed" not in done.stderr


def test_a_table_that_workers_do_not_see_is_written_by_the_command(shared, run, settings, tmp_path):
    alone = analyze(asked(run), settings).frame
    # The mark that says «this is the command's directory» is what a worker on another file system does not find.
    with shared.client() as client:
        client.run(damage.blind)
        try:
            outcome = analyze(asked(run), Settings(out=tmp_path / "dask", scheduler=shared.address))
        finally:
            client.run(damage.blind, False)
    assert outcome.frame.equals(alone)


def test_a_full_disk_on_one_worker_loses_nothing(shared, run, settings, tmp_path):
    alone = analyze(asked(run), settings).frame
    with shared.client() as client:
        one = next(iter(client.scheduler_info()["workers"]))
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        client.run(damage.limit_files, (4096, unlimited[1]), workers=[one])  # as a disk with 4 kB left
        try:
            outcome = analyze(asked(run), Settings(out=tmp_path / "dask", scheduler=shared.address))
        finally:
            client.run(damage.limit_files, unlimited, workers=[one])
    assert outcome.frame.equals(alone)
    assert not list((tmp_path / "dask").rglob("*.tmp"))


def test_a_worker_with_another_version_is_refused_before_anything_is_computed(shared, run, tmp_path):
    with shared.client() as client:
        client.run(damage.pretend_version, "1.9.0")
        try:
            with pytest.raises(WorkerError, match=r"worker tcp://127.* has pico_analyze 1\.9\.0, the command "):
                analyze(asked(run), Settings(out=tmp_path / "dask", scheduler=shared.address))
        finally:
            client.run(damage.pretend_version, None)
    assert not list((tmp_path / "dask").rglob("*.parquet"))


def test_a_run_that_a_worker_cannot_see_is_refused_before_anything_is_computed(shared, run, tmp_path):
    with shared.client() as client:
        client.run(damage.hide, str(run))
        try:
            with pytest.raises(WorkerError, match=r"worker tcp://127.*cannot see the run .*all machines share"):
                analyze(asked(run), Settings(out=tmp_path / "dask", scheduler=shared.address))
        finally:
            client.run(damage.hide, None)
    assert not list((tmp_path / "dask").rglob("*.parquet"))


def test_another_run_in_the_same_place_is_refused(shared, run, tmp_path):
    with shared.client() as client:
        client.run(damage.other_digests)
        try:
            with pytest.raises(WorkerError, match=r"there has another checkpoint of step 0: name a file system"):
                analyze(asked(run), Settings(out=tmp_path / "dask", scheduler=shared.address))
        finally:
            client.run(damage.other_digests, False)


def test_no_scheduler_is_one_sentence(run, monkeypatch):
    monkeypatch.setattr(dask, "CONNECT_SECONDS", 1.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(WorkerError, match=rf"no Dask scheduler answers at {address} within 1 s"):
        analyze(asked(run), Settings(scheduler=address))


@pytest.mark.parametrize("address", ["nonsense://x", "127.0.0.1", "tcp://127.0.0.1", "tcp://host:port"])
def test_what_is_no_address_is_a_usage_error(run, address):
    with pytest.raises(UsageError, match="not an address such as tcp://host:8786"):
        analyze(asked(run), Settings(scheduler=address))


def test_a_scheduler_without_workers_is_one_sentence(run, tmp_path, monkeypatch):
    monkeypatch.setattr(dask, "WORKER_SECONDS", 0.5)
    with Cluster(tmp_path / "empty", workers=0) as empty, pytest.raises(WorkerError, match="has no workers: start"):
        analyze(asked(run), Settings(scheduler=empty.address))


@pytest.fixture(scope="module")
def slow_rows(run, tmp_path_factory):
    """What SLOW gives where nothing goes wrong."""
    return analyze(asked(run, SLOW), Settings(out=tmp_path_factory.mktemp("expected"))).frame


def test_a_worker_that_is_killed_in_mid_task_costs_that_task(run, slow_rows, tmp_path):
    out = tmp_path / "dask"
    with Cluster(tmp_path / "cluster") as cluster:
        pids = cluster.worker_pids()
        killer = threading.Thread(target=_kill_when_begun, args=(out, next(iter(pids.values()))))
        killer.start()
        outcome = analyze(asked(run, SLOW), Settings(out=out, scheduler=cluster.address))
        killer.join()
        assert cluster.worker_pids() != pids
    assert outcome.frame.equals(slow_rows)


def _kill_when_begun(out, pid):
    """SIGKILL once the first task is done: the next is being computed."""
    wait_for(lambda: list((out / "demo" / PARTS).glob("*.parquet")))
    os.kill(pid, signal.SIGKILL)


def test_a_scheduler_that_is_lost_keeps_what_is_done_and_the_next_call_completes_it(run, slow_rows, settings, tmp_path):
    out = tmp_path / "dask"
    with Cluster(tmp_path / "cluster") as cluster:
        with cluster.client():
            pass
        assert cluster.scheduler is not None
        killer = threading.Thread(target=_kill_when_begun, args=(out, cluster.scheduler.pid))
        killer.start()
        with pytest.raises(WorkerError, match=r"the Dask cluster at tcp://.* of 10 tasks done and kept"):
            analyze(asked(run, SLOW), Settings(out=out, scheduler=cluster.address))
        killer.join()
    rest = analyze(asked(run, SLOW), replace(settings, out=out))
    assert rest.reused >= 1 and rest.frame.equals(slow_rows)
