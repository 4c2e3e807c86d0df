"""A file on disk that gives out bytes only after all of it was compared with its digest.

The digest is the one a manifest holds or, where there is none, the one found when the file was first read. It is found
by reading the file through, once per content (`known_digests`); a file that changes afterwards is read through again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from threading import Lock

from pico_analyze.errors import DataError, StorageError
from pico_analyze.stores.known_digests import State, cache_root, key_of, known_digests, state_of
from pico_schema.files import NotRegularError, open_regular


class CheckedFile:
    """One file.

    Args:
        path: Where it lies.
        sha256: Digest that its content must have; None where nothing says it: then it is found out, and must stay.
    """

    def __init__(self, path: Path, sha256: str | None = None) -> None:
        self.path, self._expected = path, sha256
        self._sealed = sha256 is not None
        self._lock = Lock()
        self._checked: State | None = None
        self._peeked: State | None = None

    @property
    def sha256(self) -> str:
        """The digest of its content.

        Raises:
            DataError: it is missing, or no longer what it was.
            StorageError: the disk refused.
        """
        if self._expected is None:
            self.check()
        assert self._expected is not None
        return self._expected

    def read(self, offset: int, length: int) -> bytearray:
        """`length` bytes from `offset`.

        Raises:
            DataError: it is missing, shorter, not what its digest says, or changes meanwhile.
            StorageError: the disk refused.
        """
        with opened(self.path) as file:
            state = self._check(file)
            content = _range(file, self.path, offset, length)
            if state != state_of(os.fstat(file.fileno())) or state != (self._peeked or state):
                raise DataError(self._changed())
        return content

    def whole(self) -> bytearray:
        """All of it; raises as `read` does."""
        return self.read(0, file_size(self.path))

    def check(self) -> None:
        """Compare it with its digest now; raises as `read` does."""
        self.read(0, 0)

    def peek(self, offset: int, length: int) -> bytearray:
        """`length` bytes from `offset`, not compared yet: for headers, which tell what there is long before any of it
        is used. What is read later is refused unless the file is still the one that was peeked into."""
        with opened(self.path) as file:
            state = state_of(os.fstat(file.fileno()))
            if self._peeked is None:
                self._peeked = state
            elif self._peeked != state:
                raise DataError(self._changed())
            return _range(file, self.path, offset, length)

    def _check(self, file: FileIO) -> State:
        """Compare what the open file holds with its digest, unless that was done for the state it is in."""
        state = state_of(os.fstat(file.fileno()))
        if state == self._checked:
            return state
        with self._lock:
            if state != self._checked:
                found = self._digest(file, state)
                if self._expected is None:
                    self._expected = found
                elif found != self._expected:
                    raise DataError(self._altered(found))
                self._checked = state
        return state

    def _digest(self, file: FileIO, state: State) -> str:
        """The digest of what an open file holds: remembered, or found by reading it through."""
        known, key = known_digests(cache_root()), key_of(self.path, state)
        found = known.find(key)
        if found is not None and found != self._expected and self._expected is not None:
            known.forget(key)  # what is remembered may itself be damaged: nothing is refused for that
            return self._read_through(file)
        if found is None:
            with known.turn(key):
                found = known.find(key)
                if found is None:
                    found = self._read_through(file)
                    if state_of(os.fstat(file.fileno())) == state:
                        known.keep(key, found, state)
        return found

    def _read_through(self, file: FileIO) -> str:
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()

    def _altered(self, found: str) -> str:
        if self._sealed:
            return (
                f"{self.path}: it does not have the content that was sealed (sha256 {found[:12]}…, the manifest says "
                f"{str(self._expected)[:12]}…): put a sound copy in its place, or leave the step out"
            )
        return self._changed()

    def _changed(self) -> str:
        return f"{self.path}: it was changed during the analysis: let its writer finish, and compute again"


@contextmanager
def opened(path: Path) -> Iterator[FileIO]:
    """A file, open for reading without a buffer; what goes wrong in the block is told in this package's words.

    Raises:
        DataError: it is missing, or no file.
        StorageError: the disk refused.
    """
    try:
        with open_regular(path) as file:
            yield file
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path}: it is missing") from None
    except IsADirectoryError:
        raise DataError(f"{path}: a file is needed, and this is a directory") from None
    except NotRegularError:
        raise DataError(f"{path}: a file is needed, and this is a pipe or a device") from None
    except OSError as error:
        raise _unread(path, error) from None


def read_file_range(path: Path, offset: int, length: int) -> bytearray:
    """`length` bytes of a file from `offset`, as they are.

    Raises:
        DataError: it is missing, or ends before.
        StorageError: the disk refused.
    """
    with opened(path) as file:
        return _range(file, path, offset, length)


def file_size(path: Path) -> int:
    """Size of a file in bytes.

    Raises:
        DataError: it is missing.
        StorageError: the disk refused.
    """
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path}: it is missing") from None
    except OSError as error:
        raise _unread(path, error) from None


def read_small(path: Path, limit: int) -> bytes:
    """The content of a file of at most `limit` bytes, as it is.

    Raises:
        DataError: it is missing, or larger.
        StorageError: the disk refused.
    """
    content = bytearray()
    with opened(path) as file:
        while len(content) <= limit and (block := file.read(min(1 << 20, limit + 1 - len(content)))):
            content += block
    if len(content) > limit:
        raise DataError(f"{path}: it has more than the {limit} bytes that make sense: refusing to read it")
    return bytes(content)


def _range(file: FileIO, path: Path, offset: int, length: int) -> bytearray:
    content, done = bytearray(length), 0
    file.seek(offset)
    view = memoryview(content)
    while done < length and (count := file.readinto(view[done:])):
        done += count
    if done < length:
        raise DataError(f"{path}: it ends after {offset + done} bytes: the file is truncated")
    return content


def _unread(path: Path, error: OSError) -> StorageError:
    return StorageError(f"{path}: reading failed ({error.strerror or error}): check the disk")
