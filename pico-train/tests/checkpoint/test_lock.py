import errno
import fcntl
import os
import signal
import subprocess
import sys

import pytest

from pico_train.checkpoint.lock import RunLock
from pico_train.data.cache import locked
from pico_train.errors import CheckpointError

HOLD = """
import sys, time
from pathlib import Path
from pico_train.checkpoint.lock import RunLock
RunLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_process_is_refused_and_told_who_holds_the_run(tmp_path, holder):
    with pytest.raises(CheckpointError, match=rf"in use by process {holder.pid} on {os.uname().nodename}"):
        RunLock(tmp_path).acquire()


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with RunLock(tmp_path):
        pass


def test_a_released_lock_can_be_taken_again_and_an_unreadable_holder_does_no_harm(tmp_path):
    with RunLock(tmp_path) as lock, pytest.raises(CheckpointError, match=f"process {os.getpid()}"):
        RunLock(tmp_path).acquire()
    with RunLock(tmp_path):
        lock.path.write_bytes(b"\xff not json")
        with pytest.raises(CheckpointError, match="another process"):
            RunLock(tmp_path).acquire()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_a_file_system_without_locks_is_no_place_for_a_run(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(CheckpointError, match="in use by another process"):
        RunLock(tmp_path).acquire()
    with pytest.raises(OSError, match=os.strerror(number)), locked(tmp_path / "cache.lock"):
        pass
