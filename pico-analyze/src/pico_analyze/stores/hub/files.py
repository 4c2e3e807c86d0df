"""Files of one repository, read through the cache: small ones whole, large ones by range.

It is noted of which ranges no one can tell yet whether they are right, because the rest of their file has not been
read: they stand in the provenance of rows, and are compared when the file is at hand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

from pico_analyze.errors import DataError, StorageError
from pico_analyze.stores.hub.block_cache import BlockCache
from pico_analyze.stores.hub.client import HubClient, MissingError
from pico_schema import FileEntry

MAX_DOCUMENT = 64 << 20
"""Largest document that is fetched, in bytes."""
_STRETCH = 64 << 20
"""Bytes of one request for a whole file."""

Read = Callable[[int, int], bytes]
"""(offset, length) → exactly those bytes."""


class RemoteFiles:
    """The files of a repository's commits.

    Args:
        client: Asks the Hub.
        blocks: What was read before.
        offline: Read from there alone.
    """

    def __init__(self, client: HubClient, blocks: BlockCache, *, offline: bool) -> None:
        self._client, self.blocks, self._offline = client, blocks, offline
        self._unchecked: dict[str, dict[tuple[int, int], str]] = {}

    def document(self, commit: str, path: str) -> bytes:
        """A small file of a commit, from the cache if it was read before.

        Raises:
            MissingError: there is none.
            StorageError: it is not in the cache, and the Hub is not to be asked.
        """
        name = f"{self._client.endpoint}/{self._client.repo}/{commit}/{path}"
        content = self.blocks.document(name)
        if content is None:
            if self._offline:
                raise StorageError(
                    f"--offline: {path} of {self._client.repo}@{commit[:12]} is not in the cache: read it online once"
                )
            content = self._client.whole(commit, path, MAX_DOCUMENT)
            self.blocks.keep_document(name, content)
        return content

    def where(self, commit: str, path: str) -> str:
        """A file's address, for messages."""
        return f"{self._client.repo}@{commit[:12]}:{path}"

    def reader(self, commit: str, path: str, entry: FileEntry) -> Read:
        """Reads ranges of a file: a function that raises DataError once the file is complete and not what `entry` says,
        and StorageError where network or cache fail."""
        where = self.where(commit, path)

        def fetch(offset: int, length: int) -> bytes:
            if self._offline:
                raise StorageError(f"--offline: {where} is not in the cache: read it online once")
            try:
                return self._client.part(commit, path, offset, length)
            except MissingError:
                raise DataError(f"{where}: the manifest lists it, the repository lacks it") from None

        def read(offset: int, length: int) -> bytes:
            content, checked = self.blocks.read_and_tell(entry.sha256, entry.size, offset, length, fetch)
            ranges = self._unchecked.setdefault(entry.sha256, {})
            if checked:
                ranges.pop((offset, length), None)
                self._settle(entry.sha256, ranges)
            else:
                ranges[offset, length] = hashlib.sha256(content).hexdigest()
            return content

        return read

    def _settle(self, sha256: str, ranges: dict[tuple[int, int], str]) -> None:
        """The file is at hand: what was given out of it before and is right is no longer noted."""
        for (offset, length), digest in tuple(ranges.items()):
            content = self.blocks.checked_part(sha256, offset, length)
            if content is not None and hashlib.sha256(content).hexdigest() == digest:
                del ranges[offset, length]

    def fetch_whole(self, commit: str, path: str, entry: FileEntry) -> None:
        """Have all of a file, so that what was given out of it before can be compared; not where nothing was, nor one
        that the cache cannot hold."""
        if self._unchecked.get(entry.sha256) and entry.size <= self.blocks.limit:
            read = self.reader(commit, path, entry)
            for offset in range(0, entry.size, _STRETCH):
                read(offset, min(_STRETCH, entry.size - offset))

    def forget(self, entry: FileEntry) -> None:
        """Throw away what is kept of a file."""
        self.blocks.forget(entry.sha256)

    def unchecked(self, entry: FileEntry, tensors_at: int, offset: int, length: int) -> dict[str, str]:
        """Of a tensor and of the header before `tensors_at`: ranges that could not be compared yet, ``offset+length`` →
        sha256 of what was given out."""
        found = tuple(self._unchecked.get(entry.sha256, {}).items())
        return {
            f"{first}+{count}": digest
            for (first, count), digest in found
            if first < tensors_at or (first, count) == (offset, length)
        }

    def confirms(self, entry: FileEntry, unchecked: Mapping[str, str]) -> bool | None:
        """Whether such ranges are those of the file; None while it is not at hand as a whole."""
        for text, digest in unchecked.items():
            offset, _, length = text.partition("+")
            content = self.blocks.checked_part(entry.sha256, int(offset), int(length))
            if content is None:
                return None
            if hashlib.sha256(content).hexdigest() != digest:
                return False
        return True
