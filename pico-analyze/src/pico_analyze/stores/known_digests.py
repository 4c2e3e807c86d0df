"""Digests of files on disk, remembered between analyses, so that a file is read through once per content.

A file's content is known by where it lies, its size, its inode and its times: whoever changes a file changes one of
them. What is remembered is a line per file in one text file among the user's caches, which all processes of a machine
share; losing it costs time, never a result. Where it cannot be written, nothing is remembered.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from threading import Lock

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from pico_schema.files import replace_file

LIMIT = 16 << 20
"""Size in bytes at which the older half of what is remembered is dropped: some 160,000 files."""
SETTLED_NS = 2_000_000_000
"""A file is remembered once it has been left alone for so long: file systems tell times to 2 s at worst, and a change
within the same tick would show in none of them."""
_PATIENCE = 120.0
"""Seconds for which another process that reads through the same file is waited for."""
_LINE = 32 + 1 + 64 + 1

State = tuple[int, int, int, int, int]
"""Device, inode, size, and when content and inode were changed last, in ns."""


def cache_root() -> Path:
    """Where both tools keep what can be had again: ``$PICO_CACHE``, or where this platform keeps a user's caches."""
    named = os.environ.get("PICO_CACHE")
    return Path(named).expanduser() if named else user_cache_path("pico")


def state_of(status: os.stat_result) -> State:
    """What changes when a file does."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def key_of(path: Path, state: State) -> str:
    """Stands for a file in a state, in 32 hexadecimal digits."""
    return hashlib.sha256(repr((os.path.abspath(path), state)).encode(errors="surrogateescape")).hexdigest()[:32]  # noqa: PTH100 - links stay


@cache
def known_digests(root: Path) -> KnownDigests:
    """What is remembered under `root`, once per process."""
    return KnownDigests(root / "digests")


class KnownDigests:
    """Digests by the keys of their files.

    Args:
        folder: A directory of its own.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._file = folder, folder / "sha256.txt"
        self._lock, self._read_to, self._digests = Lock(), 0, dict[str, str]()
        self.refused: OSError | None = None
        """Why nothing can be remembered here, once that was found out."""

    def find(self, key: str) -> str | None:
        """The digest of a file, if any process of this machine has found it out."""
        with self._lock:
            if key not in self._digests:
                self._read_further()
            return self._digests.get(key)

    def keep(self, key: str, sha256: str, state: State) -> None:
        """Remember a digest; on disk only once the file has been left alone for a while."""
        with self._lock:
            self._digests[key] = sha256
            if max(state[3], state[4]) > time.time_ns() - SETTLED_NS:
                return
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                with self._file.open("ab", buffering=0) as file:  # one write of one line: others append too
                    file.write(f"{key} {sha256}\n".encode())
            except OSError as error:
                self.refused = error

    def forget(self, key: str) -> None:
        """Have a digest found out anew, in this process."""
        with self._lock:
            self._digests.pop(key, None)

    @contextlib.contextmanager
    def turn(self, key: str) -> Iterator[None]:
        """Hold a file's turn, so that of several processes one reads it through and the others wait for what it finds.

        Where nothing can be locked, and after a while, no one is waited for.
        """
        with contextlib.ExitStack() as held:
            with contextlib.suppress(OSError, NotImplementedError, Timeout):
                self.folder.mkdir(parents=True, exist_ok=True)
                lock = FileLock(self.folder / f".{key[:2]}.lock", fallback_to_soft=False, poll_interval=0.02)
                held.enter_context(lock.acquire(timeout=_PATIENCE))
            yield

    def _read_further(self) -> None:
        """Take in what was added since, by whichever process."""
        try:
            size = self._file.stat().st_size
            if size == self._read_to:
                return
            with self._file.open("rb") as file:
                file.seek(self._read_to if size > self._read_to else 0)
                added = file.read(LIMIT + _LINE)
        except OSError:
            return
        lines = added.rpartition(b"\n")[0].split(b"\n")
        for line in lines:
            key, _, sha256 = line.decode("ascii", "replace").partition(" ")
            if len(line) == _LINE - 1:
                self._digests[key] = sha256
        self._read_to = size
        if size > LIMIT:
            with contextlib.suppress(OSError):
                replace_file(self._file, b"\n".join(lines[len(lines) // 2 :]) + b"\n", durable=False)
            self._read_to = 0
