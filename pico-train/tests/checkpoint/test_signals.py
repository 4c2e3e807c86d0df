import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from pico_train.checkpoint.signals import PATIENCE, STOPPING, StopRequest, exit_code, interrupted, requeue
from pico_train.errors import InterruptedRun

NAMES = ["SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2"]


def code_of(body: str, *sends: tuple[float, str], ready: str = "ready") -> tuple[int, str, float]:
    """Exit code, stderr, and seconds from the first signal to the end, of a program that is sent signals.

    Args:
        body: What it does within `with StopRequest(...) as stop:`.
        sends: Seconds after the last signal (the first: after it says `ready`), and the signal's name.
        ready: What it prints when the signals may come.
    """
    program = (
        "import ctypes, os, sys, time\n"
        "from pico_train.checkpoint.signals import StopRequest, interrupted\n"
        "from pico_train.errors import InterruptedRun\n"
        "def pause(seconds):\n    until = time.time() + seconds\n    while time.time() < until: time.sleep(0.01)\n"
        f"try:\n{textwrap.indent(textwrap.dedent(body).strip(), '    ')}\n"
        "except InterruptedRun as error:\n    print(error, file=sys.stderr)\n    sys.exit(error.exit_code)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline().strip() == ready
    begun = 0.0
    for wait, name in sends:
        time.sleep(wait)
        begun = begun or time.monotonic()
        process.send_signal(getattr(signal, name))
    _, stderr = process.communicate(timeout=60)
    return process.returncode, stderr, time.monotonic() - begun


@pytest.mark.parametrize("name", NAMES)
def test_where_something_is_to_be_finished_the_first_signal_is_noted(name):
    before = {number: signal.getsignal(number) for number in STOPPING}
    with StopRequest() as stop:
        stop.defer()
        assert stop.received is None
        os.kill(os.getpid(), getattr(signal, name))
        assert stop.received is not None
        assert stop.received.number == getattr(signal, name) and abs(stop.received.when - time.time()) < 10
        for other in STOPPING:  # at once after it: a launcher passes on what came to all of its processes
            os.kill(os.getpid(), other)
        assert stop.received.number == getattr(signal, name)
    assert {number: signal.getsignal(number) for number in STOPPING} == before
    assert signal.set_wakeup_fd(-1) == -1


def _work_that_survives_errors(number: int) -> None:
    with StopRequest("before anything was done"):
        try:
            os.kill(os.getpid(), number)
            time.sleep(60)
        except Exception:
            pytest.fail("it survived the stop as well")


@pytest.mark.parametrize("name", NAMES)
def test_where_nothing_is_to_be_finished_the_first_signal_leaves_at_once(name):
    with pytest.raises(InterruptedRun, match=f"^stopped by {name} before anything was done$") as ended:
        _work_that_survives_errors(getattr(signal, name))
    assert ended.value.exit_code == 128 + getattr(signal, name)


def test_a_signal_during_work_that_does_not_answer_ends_the_process_within_two_seconds():
    """The main thread is in C code, as it is while it waits for other processes or a compiler."""
    waiting = """
        with StopRequest("before the first step"):
            print("ready", flush=True)
            mutex = (ctypes.c_char * 64)()
            for _ in range(2):  # the second never returns, and no signal interrupts it
                ctypes.CDLL(None).pthread_mutex_lock(mutex)
    """
    code, said, seconds = code_of(waiting, (0.2, "SIGUSR1"))
    assert (code, said) == (138, "error: stopped by SIGUSR1 before the first step\n")
    assert seconds < 2 + PATIENCE


FINISHING = """
    with StopRequest() as stop:
        stop.defer()
        print("ready", flush=True)
        pause(8)
        raise interrupted(stop.received.number, step=3)
"""


@pytest.mark.parametrize(("first", "second", "code"), [("SIGINT", "SIGTERM", 130), ("SIGTERM", "SIGINT", 143)])
def test_a_second_signal_ends_at_once_with_the_code_of_the_first(first, second, code):
    assert code_of(FINISHING, (0.2, first), (1.0, second))[:2] == (
        code,
        "error: ended at once by a second signal; what was sealed is intact\n",
    )


@pytest.mark.parametrize(("first", "second", "code"), [("SIGINT", "SIGTERM", 130), ("SIGTERM", "SIGINT", 143)])
def test_signals_that_come_together_are_one_request_and_the_first_decides(first, second, code):
    """SIGINT's handler is called before SIGTERM's when both are pending, whichever came first."""
    finishing = FINISHING.replace("pause(8)", "pause(2)")
    found, said, _ = code_of(finishing, (0.2, first), (0.005, second))
    assert found == code and said.startswith(f"stopped by {first} after saving step 3")


TAKEN_DOWN_SLOWLY = """
import atexit, sys, time
from pico_train.checkpoint.signals import StopRequest, interrupted
from pico_train.cli import app

class Late:
    def __del__(self, sleep=time.sleep, say=print, out=sys.stdout):
        say("late", file=out, flush=True)
        sleep(3)

sys.late = Late()  # taken down with the interpreter, as torch is
atexit.register(print, "at exit", flush=True)

def work(standalone_mode):
    with StopRequest() as stop:
        stop.defer()
        print("ready", flush=True)
        while stop.received is None:
            time.sleep(0.01)
        raise interrupted(stop.received.number, step=3)

app.app = work
app.main()
"""


@pytest.mark.parametrize(("first", "second", "code"), [("SIGINT", "SIGTERM", 130), ("SIGTERM", "SIGINT", 143)])
def test_a_second_signal_after_the_last_word_does_not_decide_the_exit_code(first, second, code):
    process = subprocess.Popen(
        [sys.executable, "-c", TAKEN_DOWN_SLOWLY], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(getattr(signal, first))
    assert process.stderr.readline().startswith(f"error: stopped by {first} after saving step 3")
    for _ in range(40):
        process.send_signal(getattr(signal, second))
        time.sleep(0.02)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert said == "at exit\n", "what other libraries do at the end is done"


def test_a_signal_is_handed_on_to_the_request_around():
    with StopRequest() as outer, pytest.raises(InterruptedRun), StopRequest():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    assert outer.received is not None and outer.received.number == signal.SIGTERM


def test_a_forked_process_dies_of_a_signal_and_its_parent_hears_nothing():
    with StopRequest() as stop:
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        time.sleep(0.1)
        os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
        time.sleep(0.1)
        assert stop.received is None
    assert os.WTERMSIG(status) == signal.SIGTERM


def test_outside_the_main_thread_it_does_nothing():
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def enter() -> None:
        with StopRequest() as stop:
            seen.extend([signal.getsignal(signal.SIGTERM), stop.received])

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [before, None]


def test_exit_codes_are_the_shells():
    assert [exit_code(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)] == [130, 143, 138]
    error = interrupted(signal.SIGTERM, step=7)
    assert error.exit_code == 143 and error.everywhere
    assert str(error) == "stopped by SIGTERM after saving step 7: the same command resumes it"
    assert str(interrupted(signal.SIGUSR1, step=7, requeued=True)).endswith("saving step 7: requeued")
    unsaved = str(interrupted(signal.SIGINT, step=6, saved=False))
    assert "which was not saved; the newest checkpoint is step 6: " in unsaved
    assert "there is no checkpoint yet" in str(interrupted(signal.SIGINT, step=None, saved=False))


@pytest.fixture
def slurm(tmp_path):
    """A scontrol that notes what it was asked."""
    program = tmp_path / "scontrol"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "123"}, tmp_path / "asked"


def test_slurms_signal_puts_the_job_back_into_the_queue(slurm):
    environment, asked = slurm
    assert requeue(signal.SIGUSR1, environment)
    assert asked.read_text() == "requeue 123\n"


def test_a_task_of_an_array_is_put_back_alone(slurm):
    environment, asked = slurm
    assert requeue(signal.SIGUSR2, environment | {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"})
    assert asked.read_text() == "requeue 7_3\n"


@pytest.mark.parametrize("change", [{"SLURM_JOB_ID": ""}, {"SLURM_JOB_ID": "1; rm"}, {"PATH": ""}])
def test_without_a_job_or_scontrol_nothing_is_asked(slurm, change):
    environment, asked = slurm
    assert not requeue(signal.SIGUSR1, environment | change)
    assert not asked.exists()


def test_other_signals_end_the_job_for_good(slurm):
    environment, asked = slurm
    assert not requeue(signal.SIGTERM, environment)
    assert not asked.exists()
