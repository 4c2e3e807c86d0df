"""Shards of a Hub repository on this disk: fetched when asked for, the next ones ahead, the oldest cleared away.

A shard is checked against its size and sha256 before it is used, and renamed into place, so that nothing half-fetched
or damaged is ever read. Several processes may share the cache. A lost connection is waited out (`retry.py`); the rows
that a step needs are named by number, so asking again can neither skip nor repeat one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock, Thread

from pico_schema.digests import sha256_file
from pico_train.data.cache import locked
from pico_train.data.retry import with_retries
from pico_train.errors import DataError, StorageError

Progress = Callable[[str], None]

ATTEMPTS = 12
"""Tries per shard: with the pauses between them, some five minutes of patience."""


@dataclass(frozen=True)
class RemoteShard:
    """One file of the repository."""

    name: str
    """Its path."""
    size: int
    """Its bytes."""
    sha256: str | None
    """Its digest, as the Hub states it."""


class DamagedDownload(ConnectionError):
    """What arrived is not what the Hub said it would be; asking again may help."""


class ShardCache:
    """The shards of one split of one repository at one commit.

    Args:
        repo: Dataset repository.
        commit: Commit to read.
        shards: Its shards, in order.
        root: Directory of the cache, shared by all repositories.
        limit: Bytes that all shards in `root` may take; at least two shards are kept.
        ahead: Shards fetched ahead of the one asked for.
        progress: Called with a sentence when a fetch is tried again.
    """

    def __init__(
        self,
        repo: str,
        commit: str,
        shards: Sequence[RemoteShard],
        root: Path,
        *,
        limit: int,
        ahead: int,
        progress: Progress = lambda _: None,
    ) -> None:
        self._repo, self._commit, self._shards = repo, commit, shards
        self._root = root
        self._home = root / f"{repo.replace('/', '--')}@{commit[:16]}"
        self._limit, self._ahead, self._progress = limit, ahead, progress
        self._coming: dict[int, Future[Path]] = {}
        self._lock = Lock()

    def path_of(self, number: int) -> Path:
        """The shard on this disk, once it is there; the next ones are on their way.

        Raises:
            StorageError: the Hub cannot be reached, or the disk is full.
            DataError: what the Hub sends is not what it announces.
        """
        wanted = [number, *((number + k) % len(self._shards) for k in range(1, self._ahead + 1))]
        with self._lock:
            keep = {self._target(shard) for shard in wanted}
            for shard in wanted:
                coming = self._coming.get(shard)
                done = coming is not None and coming.done()
                if coming is None or (done and (coming.exception() is not None or not self._target(shard).exists())):
                    self._coming[shard] = self._start(shard, keep)
            for shard in [shard for shard in self._coming if shard not in wanted and self._coming[shard].done()]:
                del self._coming[shard]
            future = self._coming[number]
        path = future.result()
        with contextlib.suppress(OSError):
            os.utime(path)
        return path

    def _start(self, number: int, keep: set[Path]) -> Future[Path]:
        """Fetch a shard on a thread that does not keep the process alive: one fetched ahead may never be needed."""
        future: Future[Path] = Future()

        def fetch() -> None:
            try:
                future.set_result(self._fetched(number, keep))
            except BaseException as error:
                future.set_exception(error)

        Thread(target=fetch, name=f"pico-fetch-{number}", daemon=True).start()
        return future

    def _target(self, number: int) -> Path:
        return self._home / self._shards[number].name

    def _fetched(self, number: int, keep: set[Path]) -> Path:
        target, shard = self._target(number), self._shards[number]
        try:
            with locked(target.with_name(f".{target.name}.lock")):
                if not (target.is_file() and target.stat().st_size == shard.size):
                    self._make_room(shard.size, keep)
                    with_retries(
                        lambda: self._fetch(shard, target),
                        what=f"{self._repo}: {shard.name}",
                        attempts=ATTEMPTS,
                        on_retry=self._progress,
                    )
        except StorageError as error:
            if isinstance(error.__cause__, DamagedDownload):
                raise DataError(f"{self._repo}: {shard.name}: {error.__cause__}") from None
            raise
        except OSError as error:
            raise StorageError(
                f"{target}: cannot be written ({error.strerror or error}): make room in {self._root}"
            ) from error
        return target

    def _fetch(self, shard: RemoteShard, target: Path) -> None:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError

        staging = self._home / ".coming" / hashlib.sha256(shard.name.encode()).hexdigest()[:16]
        ask = partial(hf_hub_download, repo_type="dataset", revision=self._commit, local_dir=staging)
        try:
            path = Path(ask(self._repo, shard.name))
        except LocalEntryNotFoundError:
            raise
        except (EntryNotFoundError, RepositoryNotFoundError):
            raise DataError(f"{self._repo}: {shard.name}: is no longer there, or no longer readable") from None
        except RuntimeError as error:  # what the Xet client raises for anything that goes wrong on the way
            raise ConnectionError(str(error)) from error
        size = path.stat().st_size
        if size != shard.size or (shard.sha256 is not None and sha256_file(path) != shard.sha256):
            shutil.rmtree(staging, ignore_errors=True)
            raise DamagedDownload(f"arrived damaged ({size} of {shard.size} bytes, or other content)")
        path.replace(target)
        shutil.rmtree(staging, ignore_errors=True)

    def _make_room(self, size: int, keep: set[Path]) -> None:
        """Clear away the shards that were used longest ago, of whatever repository, until `size` bytes fit."""
        there = _held(self._root)
        total = sum(taken for _, taken, _ in there) + size
        for _, taken, path in sorted(there):
            if total <= self._limit:
                break
            if path not in keep:
                path.unlink(missing_ok=True)
                total -= taken


def _held(root: Path) -> list[tuple[int, int, Path]]:
    """When each shard in the cache was last used, its bytes, its path; other processes add and delete meanwhile."""
    found = []
    for directory, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name != ".coming"]
        for name in files:
            if name.endswith(".parquet"):
                with contextlib.suppress(FileNotFoundError):
                    path = Path(directory, name)
                    stat = path.stat()
                    found.append((stat.st_mtime_ns, stat.st_size, path))
    return found
