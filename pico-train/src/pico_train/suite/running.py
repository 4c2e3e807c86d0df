"""Members as processes: one after the other, or several at a time. One that fails stops none of the others.

Each member is `pico-train suite run SUITE --member NAME`, a process in a session of its own whose words go to a log
beside the runs. A signal is handed on to those that run, which save and end; the others are not begun.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pico_train.checkpoint import signals
from pico_train.checkpoint.storage import cannot_be_written
from pico_train.config.suites import Member
from pico_train.counting import counted
from pico_train.errors import InterruptedRun, PicoTrainError, StorageError, UsageError
from pico_train.suite import devices
from pico_train.suite.record import NOTES, OpenSuite
from pico_train.suite.state import MemberState, holder, log_file, member_state, note_outcome

_LOOK = 0.05
"""Seconds between two looks at the processes."""
_WAIT_FOR_OTHERS = 20.0
"""Seconds to wait for a process that has a member and may be about to end: one of a call that was killed."""
_PARENT = "PICO_SUITE_PROCESS"
_PR_SET_PDEATHSIG = 1


@dataclass
class Report:
    """What came of a call."""

    states: list[MemberState] = field(default_factory=list)
    """Where each member that was asked for stands."""
    failed: dict[str, str] = field(default_factory=dict)
    """Member → what its process ended with."""
    elsewhere: dict[str, str] = field(default_factory=dict)
    """Member → who trains it."""

    @property
    def line(self) -> str:
        """One sentence."""
        done = sum(each.state == "finished" for each in self.states)
        parts = [f"{done} of {counted(len(self.states), 'member')} finished"]
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        if self.elsewhere:
            parts.append(f"{len(self.elsewhere)} trained elsewhere")
        return ", ".join(parts)


@dataclass
class _Running:
    member: Member
    process: subprocess.Popen[bytes]
    place: dict[str, str]
    since: float


def run_members(
    suite: OpenSuite,
    members: Sequence[Member],
    *,
    parallel: int = 1,
    override: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """Train members, as many at a time as said, until each has ended.

    Args:
        suite: Begun.
        members: Those to be trained, in order; several at a time, the most work first.
        parallel: How many at a time.
        override: Go on under a changed configuration.
        say: Told one sentence when a member begins and ends.

    Raises:
        ConfigError: there are not so many devices.
        InterruptedRun: a signal came; all that ran have ended.
    """
    on_cpu = all(member.config.distributed.accelerator == "cpu" for member in members)
    free, report = devices.places(min(parallel, max(1, len(members))), on_cpu=on_cpu), Report()
    order = sorted(members, key=_work, reverse=True) if parallel > 1 else list(members)
    waiting = [member for member in order if member_state(suite, member).state != "finished"]
    if len(waiting) < len(order):
        say(f"{counted(len(order) - len(waiting), 'member')} of {len(order)} finished already")
    running: list[_Running] = []
    patience: dict[str, float] = {}
    with signals.StopRequest(ending=lambda: _kill(running)) as stop:
        stop.defer()
        handed_on = False
        while waiting or running:
            if stop.received and not handed_on:
                handed_on, waiting = True, []
                _hand_on(running, stop.received.number)
                say(f"{counted(len(running), 'member')} told to save and stop")
            for each in [each for each in running if each.process.poll() is not None]:
                running.remove(each)
                free.append(each.place)
                _ended(suite, each, report, say)
            while free and (member := _next(suite, waiting, patience, report)) is not None:
                running.append(_begin(suite, member, free.pop(0), override=override))
                number = len(order) - len(waiting)
                say(f"{member.name} begun ({number} of {len(order)}), log in {log_file(suite, member)}")
            if running or waiting:
                time.sleep(_LOOK)
        report.states = [member_state(suite, member) for member in members]
        if stop.received:
            requeued = signals.requeue(stop.received.number)
            what = "requeued" if requeued else f"`pico-train suite resume {suite.directory}` goes on"
            name = signal.Signals(stop.received.number).name
            raise InterruptedRun(
                f"stopped by {name}, {report.line}: {what}", exit_code=signals.exit_code(stop.received.number)
            )
    return report


def _work(member: Member) -> float:
    """Operations of a member, for the order alone."""
    config = member.config
    tokens = config.training.max_steps * config.tokens_per_step
    return tokens * config.spec.flops_per_token(config.data.seq_len)


def _next(suite: OpenSuite, waiting: list[Member], patience: dict[str, float], report: Report) -> Member | None:
    """Take the next member that no other process trains; those that others keep are given up after a while."""
    for member in list(waiting):
        who = holder(suite.run_dir(member))
        if who is None:
            waiting.remove(member)
            return member
        if time.monotonic() > patience.setdefault(member.name, time.monotonic() + _WAIT_FOR_OTHERS):
            waiting.remove(member)
            report.elsewhere[member.name] = who
    return None


def _begin(suite: OpenSuite, member: Member, place: dict[str, str], *, override: bool) -> _Running:
    path: Path = log_file(suite, member)
    try:
        path.parent.mkdir(exist_ok=True)
        with path.open("ab") as log:
            process = subprocess.Popen(
                command(suite, member, override=override),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=devices.own_environment() | place | {_PARENT: str(os.getpid())},
                start_new_session=True,
            )
    except OSError as error:
        raise StorageError(cannot_be_written(path, error)) from None
    return _Running(member, process, place, time.monotonic())


def command(suite: OpenSuite, member: Member, *, override: bool) -> list[str]:
    """What trains a member in a process of its own."""
    words = [sys.executable, "-m", "pico_train", "suite", "run", str(suite.directory), "--member", member.name]
    return [*words, "--override"] if override else words


def _ended(suite: OpenSuite, each: _Running, report: Report, say: Callable[[str], None]) -> None:
    """Note how a member's process ended, and say it."""
    name, code = each.member.name, each.process.returncode
    error = note_outcome(suite, each.member, code)
    state = member_state(suite, each.member)
    seconds = time.monotonic() - each.since
    if error is not None:
        report.failed[name] = error
        say(f"{name} failed after {seconds:.0f} s: {error}")
    elif state.state == "finished":
        loss = f", loss {state.loss:.3f}" if state.loss is not None else ""
        say(f"{name} finished: {counted(state.steps, 'step')}{loss}, {seconds:.0f} s")
    else:
        say(f"{name} stopped at step {state.step if state.step is not None else 0}")


def end_with_parent() -> None:
    """Where this process is a member's that a suite began: stop, as by SIGTERM, when that is gone, however it ended.

    Only Linux tells a process so; elsewhere a member whose suite was killed trains on to its end.
    """
    parent = os.environ.pop(_PARENT, None)
    if parent is None or sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if str(os.getppid()) != parent:  # it was gone before it could be asked for
        os.kill(os.getpid(), signal.SIGTERM)


def _hand_on(running: Sequence[_Running], number: int) -> None:
    """Ask those that run to save and end. A requeue is asked for once, by this process."""
    polite = number if number in (signal.SIGINT, signal.SIGTERM) else signal.SIGTERM
    for each in running:
        each.process.send_signal(polite)


def _kill(running: Sequence[_Running]) -> None:
    for each in running:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(each.process.pid, signal.SIGKILL)


def failure(suite: OpenSuite, report: Report) -> PicoTrainError:
    """The error with which a call ends in which members failed."""
    said = "; ".join(f"{name}: {error}" for name, error in list(report.failed.items())[:4])
    return PicoTrainError(
        f"{report.line}: {said}; what they said is in {suite.directory / NOTES}; `pico-train suite resume "
        f"{suite.directory}` tries again"
    )


def parse_shard(text: str) -> tuple[int, int]:
    """``I/N`` as its two numbers, 1 ≤ I ≤ N.

    Raises:
        UsageError: it is not of that form.
    """
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text.strip())
    if match is None:
        raise UsageError(f"--shard {text!r}: write it as I/N, such as 1/4 for the first of four")
    if not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"--shard {text}: there is no share {match[1]} of {match[2]}: I of I/N counts from 1 to N")
    return int(match[1]), int(match[2])


def shared_out(members: Sequence[Member], index: int, count: int) -> list[Member]:
    """The members of one of `count` shares of about equal work, from 1: the largest first, each to the least burdened.

    Together the shares are all members, each once, whoever asks.
    """
    shares: list[list[Member]] = [[] for _ in range(count)]
    burden = [0.0] * count
    for member in sorted(members, key=_work, reverse=True):
        least = min(range(count), key=lambda n: (burden[n], n))
        shares[least].append(member)
        burden[least] += _work(member)
    chosen = {member.name for member in shares[index - 1]}
    return [member for member in members if member.name in chosen]
