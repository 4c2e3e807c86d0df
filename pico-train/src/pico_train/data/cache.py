"""Where corpora, tokenizers and fetched shards are kept between runs: the user's cache directory."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path


def cache_root(chosen: Path | None = None) -> Path:
    """The directory of Pico's caches: as chosen, or $PICO_CACHE, or where this platform keeps a user's caches."""
    if chosen is not None:
        return chosen
    if named := os.environ.get("PICO_CACHE"):
        return Path(named).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "pico"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "pico"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pico"


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold a directory for one process: others that want it wait. The lock goes with the process, however it ends."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as file:
        if os.name == "posix":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield
