import os
import signal
import stat

import pytest

from pico_train.checkpoint.signals import STOPPING, StopRequest, exit_code, interrupted, requeue


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2"])
def test_the_first_signal_is_noted_and_the_next_change_nothing(name):
    before = {number: signal.getsignal(number) for number in STOPPING}
    with StopRequest() as stop:
        assert stop.signal is None
        os.kill(os.getpid(), getattr(signal, name))
        assert stop.signal == getattr(signal, name)
        for other in STOPPING:
            os.kill(os.getpid(), other)
        assert stop.signal == getattr(signal, name)
    assert {number: signal.getsignal(number) for number in STOPPING} == before


def test_exit_codes_are_the_shells():
    assert [exit_code(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)] == [130, 143, 138]
    error = interrupted(signal.SIGTERM, step=7)
    assert error.exit_code == 143
    assert "SIGTERM after saving step 7" in str(error)


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
