"""Where corpora, tokenizers and fetched shards are kept between runs, and how processes take turns there."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
from filelock import FileLock

from pico_train.errors import StorageError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EISDIR)


def cache_root(chosen: Path | None = None) -> Path:
    """The directory of this package's caches.

    As chosen; else the folder `data` in $PICO_CACHE, or in `pico` among this platform's caches of a user. pico-analyze
    keeps what it fetches in the folder `hub` beside it, so that $PICO_CACHE moves both.
    """
    if chosen is not None:
        return chosen
    named = os.environ.get("PICO_CACHE")
    return (Path(named).expanduser() if named else platformdirs.user_cache_path("pico")) / "data"


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold a lock file for one process: others that want it wait. The lock goes with the process, however it ends.

    Raises:
        OSError: the file cannot be made, or its file system has no locks.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file, thread_local=False, fallback_to_soft=False):
        yield


def cannot_write(place: Path, error: OSError) -> StorageError:
    """The error for a directory of a corpus, or of the cache, whose disk refuses."""
    if error.errno in _CLOSED:
        return StorageError(
            f"{place}: cannot be written ({error.strerror}): choose another --out, or for a run's own data another "
            "folder with PICO_CACHE"
        )
    why = "the disk is full: make room" if error.errno in _FULL else f"the disk failed ({error.strerror or error})"
    more = "" if error.errno in _FULL else ": see to it"
    return StorageError(f"{place}: {why}{more} and run the same command again; it goes on from where it stopped")
