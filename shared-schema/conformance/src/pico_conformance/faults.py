"""Faults that a test asks the Hub to commit, matched against the request line in the order they were added."""

from __future__ import annotations

import dataclasses
import re
import threading
from typing import Literal

Kind = Literal["status", "hang", "drop", "lost", "truncate", "flip", "flip-upload", "answer", "race"]


@dataclasses.dataclass
class Fault:
    """What goes wrong with the requests whose `METHOD /path` contains the regular expression `path`.

    status       answer `status` (with `headers`, e.g. Retry-After); the request has no effect
    hang         wait `delay` seconds, then go on as usual
    drop         close the connection before the request is handled
    lost         handle the request, then close the connection without an answer
    truncate     announce the whole body, send half of it, close
    flip         change one bit of the answer's body (of its last byte, or at `at` × length)
    flip-upload  change one bit of the request's body before it is handled
    answer       answer 200 with `body`, whatever was asked: a hostile or broken server
    race         before the request is handled, somebody else commits to the branch it names
    """

    path: str
    kind: Kind = "status"
    status: int = 503
    times: int = 1
    delay: float = 0.0
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    skip: int = 0
    at: float = 1.0
    body: bytes = b""

    def matches(self, line: str) -> bool:
        return self.times > 0 and re.search(self.path, line) is not None


class FaultBook:
    """The faults in force. `take` hands out at most one per request."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, *faults: Fault) -> None:
        with self._lock:
            self._faults.extend(faults)

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def take(self, line: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if not fault.matches(line):
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                return fault
        return None

    @property
    def pending(self) -> list[Fault]:
        """Faults that have not all been committed yet: a test that expects them to fire checks this is empty."""
        with self._lock:
            return [fault for fault in self._faults if fault.times > 0]


def flip_bit(data: bytes, at: float) -> bytes:
    """`data` with the lowest bit of one byte changed: the last for `at` = 1, the first for 0."""
    if not data:
        return data
    index = min(int(at * len(data)), len(data) - 1)
    return data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :]
