"""Opening a file of text, compressed or not; and what is said where it cannot be read to its end."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from pico_train.errors import DataError, StorageError

if TYPE_CHECKING:
    import pyarrow as pa

COMPRESSIONS = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}
"""Last endings of compressed files, and the names of their formats."""
BLOCK = 2**20
"""Bytes that are read at once."""

_ABSENT = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


def ending(path: Path) -> str:
    """The kind of a file: ".txt", ".jsonl.gz"; lower case."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return "".join(suffixes[-2:] if suffixes[-1:] and suffixes[-1] in COMPRESSIONS else suffixes[-1:])


def compression(path: Path) -> str | None:
    """The format in which a file is compressed, by its ending; None if it is not."""
    return COMPRESSIONS.get(path.suffix.lower())


@contextmanager
def open_text(path: Path) -> Iterator[BinaryIO]:
    """The bytes of the text in a file, decompressed on the way.

    Files of several parts, each compressed on its own, are read whole: parallel compressors and concatenation leave
    such files.

    Raises:
        DataError: no such file, or a compressed file that is cut short or damaged.
        StorageError: the disk failed.
    """
    kind = compression(path)
    with reading(path, kind), path.open("rb") as raw:
        if kind is None:
            yield raw
            return
        if not path.stat().st_size:
            raise EOFError("it is empty")
        with _decompressed(raw, kind) as file:
            yield cast(BinaryIO, file)


@contextmanager
def reading(path: Path, kind: str | None = None) -> Iterator[None]:
    """Inside, what goes wrong with reading `path`, which is compressed as `kind`, becomes one sentence.

    Raises:
        DataError: no such file, or a compressed file that is cut short or damaged.
        StorageError: the disk failed.
    """
    try:
        yield
    except _ABSENT as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except (EOFError, lzma.LZMAError, zlib.error, OSError) as error:
        if kind is not None and getattr(error, "errno", None) is None:
            reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
            raise DataError(f"{path}: not a whole {kind} file ({reason}): fetch it again") from None
        if not isinstance(error, OSError):
            raise
        raise StorageError.unreadable(path, error) from error


def _decompressed(raw: BinaryIO, kind: str) -> io.BufferedIOBase:
    if kind == "gzip":
        return gzip.GzipFile(fileobj=raw, mode="rb")
    if kind == "bzip2":
        return bz2.BZ2File(raw)
    if kind == "xz":
        return lzma.LZMAFile(raw)
    import pyarrow as pa

    return io.BufferedReader(_Stream(pa.CompressedInputStream(raw, "zstd")), BLOCK)


class _Stream(io.RawIOBase):
    """A stream of pyarrow as Python's own classes take it."""

    def __init__(self, stream: pa.NativeFile) -> None:
        super().__init__()
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        content = self._stream.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)
