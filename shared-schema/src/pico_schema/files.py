"""Files replaced whole: readers see the old content or the new, never a part of it.

New content goes into a temporary file beside the target, which is then renamed over it; whatever goes wrong on the way,
the old file stays and the temporary one is removed. The temporary's name is random, so that threads, processes and
machines that share the directory do not meet; it begins with a dot and ends in ``.tmp``, so that what a killed process
left can be known and removed. Nothing here knows what a file holds. An `OSError` passes through: what it means, and
what to do about it, only the caller knows.

Files are read by `read_regular` and `open_regular` where somebody else may have put something in their place.

`replace_file` takes content that is at hand, `open_replacement` gives a handle to write through, `replacement` a path
for libraries that open it themselves (pyarrow, pandas, matplotlib). With `durable` the new content also outlives a
power cut; without, only a crash of the process: for caches and whatever can be made again.

A process that ends without unwinding (`os._exit`) calls `discard_unfinished` before.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, FileIO
from pathlib import Path
from typing import BinaryIO

_unfinished: set[Path] = set()
"""Temporary files that are being written, and what else is to go with the process."""


class NotRegularError(OSError):
    """What lies in the place of a file is a pipe or a device."""


def open_regular(path: Path) -> FileIO:
    """A file open for reading, without a buffer; never a pipe, which would be waited for, nor a device.

    Raises:
        NotRegularError: it is a pipe, a device or a socket.
        OSError: it is missing, a directory, or the disk refused.
    """

    def opener(name: str, flags: int) -> int:
        handle = os.open(name, flags | getattr(os, "O_NONBLOCK", 0))  # of no effect on regular files
        if stat.S_ISREG(mode := os.fstat(handle).st_mode):
            return handle
        os.close(handle)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
        raise NotRegularError(errno.EINVAL, "it is not a regular file", name)

    return io.open(path, "rb", buffering=0, opener=opener)  # noqa: UP020 - as `Path.open` does


def read_regular(path: Path, most: int = -1) -> bytes:
    """The content of a regular file, or its first `most` bytes; raises as `open_regular` does."""
    with open_regular(path) as raw, BufferedReader(raw) as file:
        return file.read(most)


def replace_file(path: Path, content: bytes | bytearray | memoryview | str, *, durable: bool = True) -> None:
    """Put `content` at `path`, a text as UTF-8.

    For documents, indexes, pieces of a cache: whatever is in memory as a whole.

    Raises:
        OSError: the directory is missing or the disk refused; the old file is as it was.
    """
    with open_replacement(path, durable=durable) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def open_replacement(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """A new binary file that takes the place of `path` when the block ends without an exception.

    For content that is written piece by piece, or hashed on its way.

    Raises:
        OSError: the directory is missing or the disk refused; the old file is as it was.
    """
    with replacement(path, durable=durable) as temporary, temporary.open("xb") as file:
        yield file


@contextmanager
def replacement(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A path beside `path`; the file written to it takes the place of `path` if the block ends without an exception.

    For libraries that open a path themselves. The file must be closed when the block ends.

    Raises:
        OSError: the directory is missing or the disk refused, or nothing was written; the old file is as it was.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    _unfinished.add(temporary)
    try:
        yield temporary
        if durable:
            _fsync_file(temporary)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # what went wrong first is what the caller must hear of
            temporary.unlink()
        raise
    finally:
        _unfinished.discard(temporary)
    if durable:
        fsync_directory(path.parent)


def discard_with_process(path: Path) -> None:
    """Have a file, or a directory and what is in it, removed by `discard_unfinished` too, should it come to that."""
    _unfinished.add(path)


def discard_unfinished() -> None:
    """Remove what this process was writing and had not put in its place: for one that is about to end at once, without
    unwinding, whatever its other threads are at. What had its place has it."""
    for path in tuple(_unfinished):
        with contextlib.suppress(OSError):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


def _fsync_file(path: Path) -> None:
    handle = os.open(path, os.O_RDWR)  # Windows syncs through writable handles only
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def fsync_directory(path: Path) -> None:
    """Make renames inside a directory durable (a no-op where directories cannot be opened: Windows)."""
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
