"""How bytes reach the disk: every open, write, fsync and rename of the checkpoint writer happens here.

`Disk` is the few calls to the operating system that durability rests on. The fault tests put their own in its place,
which counts the calls, fails or kills at the N-th, and forgets what was never synced. Nothing here knows what a
checkpoint is.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from pico_schema import FileEntry

BUFFER = 8 * 2**20
"""Bytes collected before they are written, so that hashing and writing take turns on large pieces."""


class Disk:
    """The operating system's calls that durability rests on, and nothing else."""

    def make_directory(self, path: Path) -> None:
        """Create one directory; it must not exist yet."""
        path.mkdir()

    def open(self, path: Path) -> int:
        """Create a file for writing and return its handle; it must not exist yet."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)

    def open_log(self, path: Path) -> int:
        """Open a file for appending, creating it if need be, and return its handle."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

    def write(self, handle: int, content: memoryview) -> None:
        """Write all of `content`."""
        while content:
            content = content[os.write(handle, content) :]

    def fsync(self, handle: int) -> None:
        """Make a file's content durable."""
        os.fsync(handle)

    def close(self, handle: int) -> None:
        """Give a handle back."""
        os.close(handle)

    def rename(self, source: Path, target: Path) -> None:
        """Rename a file over another, or a directory to a name that is free or an empty directory."""
        source.replace(target)

    def fsync_directory(self, path: Path) -> None:
        """Make the entries of a directory durable (where directories can be opened: not on Windows)."""
        if os.name != "posix":
            return
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def remove(self, path: Path) -> None:
        """Remove a file or a whole directory, if it is there."""
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


class HashedFile:
    """A new file that is hashed while it is written: its digest costs no second reading.

    `write` takes anything with a buffer, so `torch.save` and pyarrow can write into it. `seal` makes the content
    durable.
    """

    def __init__(self, disk: Disk, path: Path, *, buffer: int = BUFFER) -> None:
        self.path = path
        self._disk = disk
        self._limit = buffer
        self._buffer = bytearray()
        self._digest = hashlib.sha256()
        self._size = 0
        self._handle: int | None = disk.open(path)

    def write(self, content: bytes | bytearray | memoryview) -> int:
        """Append bytes; returns how many."""
        view = memoryview(content).cast("B")
        length = len(view)
        if len(self._buffer) + length < self._limit:
            self._buffer += view
            return length
        self._drain()
        while len(view) >= self._limit:
            self._put(view[: self._limit])
            view = view[self._limit :]
        self._buffer += view
        return length

    def flush(self) -> None:
        """Do nothing: `seal` is what makes content durable. Here because writers of files call it."""

    def seal(self) -> FileEntry:
        """Write what is left, fsync, close.

        Returns:
            Size and digest of the content.
        """
        self._drain()
        assert self._handle is not None
        self._disk.fsync(self._handle)
        self.close()
        return FileEntry(size=self._size, sha256=self._digest.hexdigest())

    def close(self) -> None:
        """Give the handle back, whatever was written."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            self._disk.close(handle)

    def _drain(self) -> None:
        if self._buffer:
            buffer, self._buffer = self._buffer, bytearray()
            self._put(memoryview(buffer))

    def _put(self, view: memoryview) -> None:
        assert self._handle is not None
        self._digest.update(view)
        self._disk.write(self._handle, view)
        self._size += len(view)


def write_file(
    disk: Disk, path: Path, chunks: Iterable[bytes | bytearray | memoryview], *, buffer: int = BUFFER
) -> FileEntry:
    """Create a file from `chunks`, durably.

    Returns:
        Size and digest of the content.

    Raises:
        OSError: the disk refused; the file may be there in part.
    """
    file = HashedFile(disk, path, buffer=buffer)
    try:
        for chunk in chunks:
            file.write(chunk)
        return file.seal()
    finally:
        file.close()


def replace_file(disk: Disk, path: Path, content: bytes) -> None:
    """Put `content` at `path`: readers see the old or the new file, whole, even after a power cut.

    Not `pico_schema.files.replace_file`: the fault tests count and refuse each call of `disk`, so each of these too.

    Raises:
        OSError: the disk refused; the old file is intact and nothing is left beside it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    disk.remove(temporary)
    try:
        write_file(disk, temporary, [content])
        disk.rename(temporary, path)
    except BaseException:
        disk.remove(temporary)
        raise
    disk.fsync_directory(path.parent)


def cannot_be_written(place: Path, error: OSError) -> str:
    """The sentence for a run's directory in which the operating system refuses to write."""
    what = error.strerror or type(error).__name__
    hint = "free some space" if error.errno == errno.ENOSPC else "check that it may be written and is mounted"
    return f"{place}: cannot be written ({what}): {hint}"
