"""Ctrl-C and SIGTERM: the first ends a command in good order within two seconds, a second one at once.

The first raises KeyboardInterrupt in the main thread, whose way out keeps what is done. A thread beside it watches the
signals too, and ends the process when that way takes longer than `GRACE` (a computation in a library cannot be
interrupted, and does not let Python's own handler run) or when a second signal comes. The first signal decides the exit
code. Whoever leaves removes the files that were being written and ends the processes that were begun.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from multiprocessing.process import BaseProcess
from threading import Lock, Thread, current_thread, main_thread
from types import FrameType, TracebackType
from typing import Any, NoReturn

GRACE = 1.0
"""Seconds between the first signal and the end of the process, at most."""
_HEARING = 0.2
"""Seconds that processes of workers have to end by themselves."""
_STOPPING = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Watches for signals while the block runs; does nothing but in the main thread. A signal that is ignored stays so.

    Args:
        message: What is said, on stderr, when the process leaves because of one.
    """

    def __init__(self, message: str = "") -> None:
        self.first: int | None = None
        """The signal that came first."""
        self._told = False
        self._message, self._leaving = message, Lock()
        self._before: dict[int, Any] = {}
        self._sink: socket.socket | None = None
        self._wakeup = -1

    def __enter__(self) -> Signals:
        if current_thread() is main_thread():
            source, self._sink = socket.socketpair()
            self._sink.setblocking(False)
            self._wakeup = signal.set_wakeup_fd(self._sink.fileno(), warn_on_full_buffer=False)
            for number in _STOPPING:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._came)
            Thread(target=self._watch, args=(source,), daemon=True, name="signals").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sink is not None:
            for number, handler in self._before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(self._wakeup)
            self._sink.close()  # what ends the thread that reads from it

    def _came(self, number: int, _frame: FrameType | None) -> None:
        self.first = self.first or number  # the thread beside may have seen it before
        if not self._told:
            self._told = True
            raise KeyboardInterrupt

    def _watch(self, source: socket.socket) -> None:
        """In a thread of its own: end the process when the first signal has had its time, or a second one comes."""
        with source:
            number = _next(source)
            if number is None:
                return  # the block has ended
            self.first = self.first or number
            if select.select([source], [], [], GRACE)[0] and _next(source) is None:
                return
        self.leave()

    def leave(self) -> NoReturn:
        """End the process now, with the exit code of the first signal."""
        self._leaving.acquire()  # for good: one thread leaves
        _beginning.acquire(timeout=_HEARING)  # for good: no process is begun in the place of those that are ended
        with contextlib.suppress(Exception):
            end_now(multiprocessing.active_children())
            _discard()
            if sys.stderr.isatty():
                sys.stderr.write("\x1b[?25h")  # a progress bar hides the cursor
            sys.stderr.write(f"error: {self._message}\n")
            sys.stderr.flush()
        os._exit(128 + (self.first or signal.SIGINT))


def _discard() -> None:
    files = sys.modules.get("pico_schema.files")  # not imported here: that would take a tenth of a second
    if files is not None:
        files.discard_unfinished()


def _next(source: socket.socket) -> int | None:
    """The next signal that stops; None when the other end is closed."""
    while number := source.recv(1):
        if number[0] in _STOPPING:
            return number[0]
    return None


def end_now(children: Iterable[BaseProcess]) -> None:
    """End processes that `obey_parent`, and those that do not hear."""
    children = list(children)
    for child in children:
        child.terminate()
    until = time.monotonic() + _HEARING
    for child in children:
        child.join(max(0.0, until - time.monotonic()))
        if child.is_alive():
            child.kill()


def begin_tracker() -> None:
    """Begin the process with which Python tracks semaphores, before there are any. It removes those of a process that
    left at once, and is not to warn of them."""
    from multiprocessing import resource_tracker

    sys.warnoptions.append("ignore:resource_tracker:UserWarning")
    try:
        resource_tracker.ensure_running()  # which lets signals through afterwards: not to be called within `held_back`
    finally:
        sys.warnoptions.pop()


_beginning = Lock()
"""Held while a process is begun."""


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Signals wait while a process is begun, which inherits that: it is not told to stop before it can be.

    The system gives a signal to whatever thread lets it through, and Python's handlers run in the main thread all the
    same: they are called when the block has ended. A process that was begun, but not told what to do, would complain.
    """
    came: list[int] = []
    handlers: dict[int, Any] = {}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        if current_thread() is main_thread():
            caught = [number for number in _STOPPING if callable(signal.getsignal(number))]
            handlers = {number: signal.signal(number, lambda got, _: came.append(got)) for number in caught}
        with _beginning:
            yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if came:
            handlers[came[0]](came[0], None)


_kept: list[socket.socket] = []


def obey_parent() -> None:
    """In a process of workers: leave at once when the command says so (SIGTERM) or is no more. Ctrl-C is the
    command's."""
    source, sink = socket.socketpair()
    sink.setblocking(False)
    _kept.extend((source, sink))
    signal.set_wakeup_fd(sink.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: None)
    parent = multiprocessing.parent_process()
    heard = [source.fileno()] if parent is None else [source.fileno(), parent.sentinel]

    def watch() -> None:
        select.select(heard, [], [])
        _discard()
        os._exit(128 + signal.SIGTERM)

    Thread(target=watch, daemon=True, name="signals").start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
