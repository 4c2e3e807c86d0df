"""Ctrl-C and SIGTERM, sent to real processes: within two seconds, what is done kept, nothing left behind."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import slow_metric
from dask_cluster import Cluster, wait_for
from synthetic import make_run

from pico_analyze.table.store import PARTS

PROGRAM = Path(sys.executable).with_name("pico-analyze")
SECONDS = 3.0
"""Two, and one for a machine that is busy with other tests."""
WORDS = ("compute", "slow", "--site", "attn.o", "--no-plot", "--format", "csv")
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    return slow_metric.install(tmp_path_factory.mktemp("plugin") / "site")


@pytest.fixture
def environment(plugin, tmp_path):
    return os.environ | {"PYTHONPATH": str(plugin), "QUICK_CALLS": "1", "TMPDIR": str(tmp_path)}


@pytest.fixture
def start(environment):
    """`start(run, *how, **environment)` begins a computation; one that a test leaves behind is ended."""
    begun = []

    def begin(run, *how, **more):
        process = subprocess.Popen(
            [PROGRAM, *WORDS, str(run), *how], env=environment | more, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, start_new_session=True, cwd=run.parent,
        )  # fmt: skip
        begun.append(process)
        return process

    yield begin
    for process in begun:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)


def ended(process):
    """What was said, once the process and all that it began have ended, and how long that took."""
    begun = time.monotonic()
    out, err = process.communicate(timeout=60)
    seconds = time.monotonic() - begun
    wait_for(lambda: not [p for p in psutil.process_iter() if _session(p.pid) == process.pid], 5)
    assert "Traceback" not in err and "Warning" not in err
    return seconds, out, err


def _session(pid):
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0


@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize("how", [("--threads", "2"), ("--jobs", "2")], ids=["threads", "processes"])
def test_a_signal_in_the_midst_of_a_long_computation_keeps_what_is_done(tmp_path, start, number, how):
    run = make_run(tmp_path / "runs")
    process = start(run, *how)
    parts = run.parent / "analysis" / "demo" / PARTS
    wait_for(lambda: list(parts.glob("*.parquet")))
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does: to the workers too
    else:
        process.send_signal(number)
    seconds, out, err = ended(process)
    assert process.returncode == CODES[number] and seconds < SECONDS
    assert out == "" and err.count("error: interrupted: what is done is kept") == 1
    left = [path.name for path in tmp_path.rglob("*") if path.is_file() and "analysis" in path.parts]
    assert not [name for name in left if ".tmp" in name or name.startswith(".command")]
    assert not list(tmp_path.glob("pico-analyze-*"))
    again = start(run, *how, QUICK_CALLS="1000")
    _, out, err = ended(again)
    assert again.returncode == 0 and len(out.splitlines()) == 1 + 10
    told = re.search(r"10 rows \((\d+) new, (\d+) already there", err)
    assert told and int(told[1]) > 0 and int(told[2]) > 0


def test_a_signal_while_a_cluster_computes_keeps_what_is_done(tmp_path, start, environment, monkeypatch):
    run = make_run(tmp_path / "runs")
    monkeypatch.setenv("QUICK_CALLS", "1")
    with Cluster(tmp_path / "cluster", path=environment["PYTHONPATH"]) as cluster:
        with cluster.client():
            pass
        process = start(run, "--scheduler", cluster.address)
        wait_for(lambda: list((run.parent / "analysis" / "demo" / PARTS).glob("*.parquet")))
        process.send_signal(signal.SIGTERM)
        seconds, _, err = ended(process)
        assert process.returncode == 143 and seconds < SECONDS
        assert err.count("error: interrupted: what is done is kept") == 1


BUSY = """
import hashlib, sys
from pico_analyze.engine import signals
signals.GRACE = float(sys.argv[1])
with signals.Signals("stopped"):
    print("begun", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""


@pytest.fixture
def busy(request):
    """A process whose main thread computes for minutes, in one call; it has so many seconds to end."""
    line = [sys.executable, "-c", BUSY, str(request.param)]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    time.sleep(0.3)  # for the call to begin
    yield process
    process.kill()
    process.wait(60)


@pytest.mark.parametrize("busy", [1.0], indirect=True)
def test_a_main_thread_that_cannot_be_interrupted_has_its_time_and_no_more(busy):
    begun = time.monotonic()
    busy.send_signal(signal.SIGTERM)
    _, err = busy.communicate(timeout=60)
    assert busy.returncode == 143 and err == "error: stopped\n"
    assert 0.9 < time.monotonic() - begun < SECONDS


@pytest.mark.parametrize("busy", [3600.0], indirect=True)
def test_a_second_signal_ends_it_at_once_and_the_first_decides_the_exit_code(busy):
    """The first would leave it an hour."""
    busy.send_signal(signal.SIGINT)
    time.sleep(0.2)
    busy.send_signal(signal.SIGTERM)
    _, err = busy.communicate(timeout=300)
    assert busy.returncode == 130 and err == "error: stopped\n"


SEEN = """
import hashlib, os, signal, threading
from pico_analyze.engine.signals import Signals
with Signals("stopped") as signals:
    threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGTERM)).start()
    try:
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10**5)  # a small part of the second that it has, on a busy machine too
        while True:
            pass
    except KeyboardInterrupt:
        print("interrupted", signals.first == signal.SIGTERM)
"""


def test_the_main_thread_is_interrupted_though_the_thread_beside_it_saw_the_signal_first():
    """While the main thread is in a library, the thread that watches is the first to know."""
    process = subprocess.run([sys.executable, "-c", SEEN], capture_output=True, text=True, timeout=60)
    assert (process.returncode, process.stdout, process.stderr) == (0, "interrupted True\n", "")


HELD = """
import os, signal, threading, time
from pico_analyze.engine.signals import Signals, held_back
with Signals("stopped"):
    threading.Thread(target=time.sleep, args=(1,), daemon=True).start()  # which lets signals through
    try:
        with held_back():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
            print("held")
        print("missed")
    except KeyboardInterrupt:
        print("interrupted")
"""


def test_a_signal_is_held_back_while_a_process_is_begun_though_another_thread_lets_it_through():
    process = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, timeout=60)
    assert (process.returncode, process.stdout, process.stderr) == (0, "held\ninterrupted\n", "")


LEAVING = """
import threading, time
from pico_analyze.engine import signals as module
from pico_analyze.engine.signals import Signals, held_back
module.end_now = lambda _: time.sleep(0.3)
with Signals("stopped") as signals:
    threading.Timer(0.1, signals.leave).start()
    while True:
        with held_back():
            print(end="", flush=True)
        if signals._leaving.locked():
            time.sleep(0.1)
            with held_back():
                print("begun", flush=True)
"""


def test_nothing_is_begun_by_a_command_that_is_leaving():
    process = subprocess.run([sys.executable, "-c", LEAVING], capture_output=True, text=True, timeout=60)
    assert (process.returncode, process.stdout, process.stderr) == (130, "", "error: stopped\n")


def test_a_signal_that_is_ignored_stays_so():
    code = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN);" + BUSY.replace("10**9", "10**6").strip()
    process = subprocess.Popen([sys.executable, "-c", code, "1.0"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0


def test_what_was_before_is_there_again_afterwards():
    from pico_analyze.engine.signals import Signals

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Signals() as signals:
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before and signals.first is None


def test_worker_processes_end_with_their_command_however_that_ends(tmp_path, start):
    """SIGKILL gives no one time to tell them."""
    run = make_run(tmp_path / "runs")
    process = start(run, "--jobs", "2")
    wait_for(lambda: list((run.parent / "analysis" / "demo" / PARTS).glob("*.parquet")))
    process.kill()
    ended(process)
    assert process.returncode == -9
