"""The log of every request the Hub got, with what moved over the wire: the evidence for tests about traffic."""

from __future__ import annotations

import dataclasses
import re
import threading
from collections import deque
from collections.abc import Iterator


@dataclasses.dataclass
class Request:
    """One request. `sent` and `received` are the Hub's view, in bytes, headers of the answer included."""

    method: str
    path: str
    authorized: bool
    host: str | None
    range: str | None
    fault: str | None
    status: int = 0
    received: int = 0
    sent: int = 0

    @property
    def line(self) -> str:
        return f"{self.method} {self.path}"


class RequestLog:
    """The newest `limit` requests. Iterable; `mark()` and `since` let a test look at one phase alone."""

    def __init__(self, limit: int = 200_000) -> None:
        self._rows: deque[tuple[int, Request]] = deque(maxlen=limit)
        self._count = 0
        self._lock = threading.Lock()

    def add(self, request: Request) -> None:
        with self._lock:
            self._rows.append((self._count, request))
            self._count += 1

    def mark(self) -> int:
        """A position in the log; requests that come later are `since` it."""
        return self._count

    def matching(self, pattern: str = "", since: int = 0) -> list[Request]:
        with self._lock:
            return [r for n, r in self._rows if n >= since and re.search(pattern, r.line)]

    def count(self, pattern: str = "", since: int = 0) -> int:
        return len(self.matching(pattern, since))

    def sent(self, pattern: str = "", since: int = 0) -> int:
        """Bytes the Hub sent in answer to the matching requests."""
        return sum(r.sent for r in self.matching(pattern, since))

    def received(self, pattern: str = "", since: int = 0) -> int:
        """Bytes of request bodies that the Hub got."""
        return sum(r.received for r in self.matching(pattern, since))

    def __iter__(self) -> Iterator[Request]:
        return iter(self.matching())

    def __len__(self) -> int:
        return self._count
