"""The files of one commit of any repository on the Hub, as a model is read from: small ones whole, shards by range.

One request lists a commit: names, sizes, and the digest of each file (of large ones the sha256, of small ones git's).
A commit never changes, so what it lists is kept; equal files of different commits are known by their digests and are
read once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pico_analyze.errors import DataError, StorageError
from pico_analyze.stores.hub.block_cache import BlockCache
from pico_analyze.stores.hub.client import HubClient, MissingError, parse_files
from pico_analyze.stores.hub.files import MAX_DOCUMENT, RemoteFiles
from pico_analyze.stores.json_file import json_object
from pico_analyze.stores.lfs import is_pointer
from pico_analyze.stores.safetensors import TensorFile
from pico_analyze.stores.transformers.pickled_files import ALLOW, is_pickle
from pico_schema import FileEntry, strict_json
from pico_schema.digests import git_blob_id

if TYPE_CHECKING:
    from pico_analyze.stores.pickled.pickles import Pickles

_Facts = TypeVar("_Facts")
MAX_HEADER = 32 << 20
"""Largest header of a safetensors file that is fetched, in bytes."""
STRETCH = 64 << 20
"""Bytes of one request for a file that is fetched as a whole."""


@dataclass(frozen=True)
class HubFile:
    """What the Hub says of a file."""

    size: int
    """Its bytes."""
    blob: str
    """Git's digest: of its content, or of the pointer to it."""
    sha256: str | None
    """Digest of its content, of files that are stored apart from git (LFS, Xet)."""

    @property
    def identity(self) -> str:
        """What is equal where contents are."""
        return self.sha256 or self.blob


class Repository:
    """What is read of one repository, shared by all its commits. Pickled weights are opened by `pickles`, if any."""

    def __init__(
        self,
        client: HubClient,
        files: RemoteFiles,
        blocks: BlockCache,
        *,
        offline: bool,
        pickles: Pickles | None = None,
    ) -> None:
        self.client, self.files, self._blocks, self._offline = client, files, blocks, offline
        self.pickles = pickles
        self._small: dict[str, bytes] = {}

    def listing(self, commit: str) -> dict[str, HubFile]:
        """The files of a commit: from the cache if it was listed before, else in one request.

        Raises:
            StorageError: offline, and it was never listed.
            DataError: the answer is none.
        """

        def read(content: bytes) -> dict[str, HubFile]:
            return {path: HubFile(*facts) for path, facts in parse_files(content, where=self.client.repo).items()}

        return self._known(commit, "blobs", lambda: self.client.listing(commit), read)

    def titles(self, commit: str) -> list[tuple[str, str]]:
        """Commit and title of what leads to a commit, the newest first; raises as `listing` does."""

        def read(content: bytes) -> list[tuple[str, str]]:
            return [(str(found), str(title)) for found, title in strict_json.parse(content)]

        return self._known(commit, "titles", lambda: json.dumps(self.client.commits(commit)).encode(), read)

    def _known(self, commit: str, what: str, ask: Callable[[], bytes], read: Callable[[bytes], _Facts]) -> _Facts:
        """What the Hub says of a commit: it never changes, so an answer that could be read is kept for good."""
        name = f"{self.client.endpoint}/{self.client.repo}/{commit}?{what}"
        kept = self._blocks.document(name)
        if kept is not None:
            return read(kept)
        if self._offline:
            raise StorageError(
                f"--offline: {self.client.repo}@{commit[:12]} was never listed on this machine: read it once without "
                "--offline"
            )
        content = ask()
        facts = read(content)
        self._blocks.keep_document(name, content)
        return facts

    def small(self, commit: str, path: str, file: HubFile) -> bytes:
        """The content of a small file, by its digest: that of another commit, if it is the same."""
        content = self._small.get(file.identity)
        if content is None:
            content = self._blocks.document(f"{self.client.endpoint}/blob/{file.identity}")
        if content is None or not _has_digest(content, file):
            if file.size > MAX_DOCUMENT:
                raise DataError(
                    f"{self.files.where(commit, path)}: it has {file.size:,} bytes, more than such a file can have"
                )
            try:
                content = self.files.document(commit, path)
            except MissingError:
                raise DataError(f"{self.files.where(commit, path)}: the Hub lists it, and does not have it") from None
            if not _has_digest(content, file):
                raise DataError(f"{self.files.where(commit, path)}: it is not the file that the Hub lists: try again")
            self._blocks.keep_document(f"{self.client.endpoint}/blob/{file.identity}", content)
        self._small[file.identity] = content
        return content


def _has_digest(content: bytes, file: HubFile) -> bool:
    if file.sha256 is not None:
        return hashlib.sha256(content).hexdigest() == file.sha256
    return git_blob_id(content) == file.blob


class HubFiles:
    """The files of one commit; every byte is known by its digest before it is read."""

    sealed, remade = True, False

    def __init__(self, repository: Repository, commit: str, revision: str, files: Mapping[str, HubFile]) -> None:
        self._repository, self.commit, self.name, self._files = repository, commit, revision, files
        self.where = f"hf://{repository.client.repo}@{revision}"
        self.pickles_closed = ALLOW if repository.pickles is None else None

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Bytes of each file."""
        return {path: file.size for path, file in self._files.items()}

    def at(self, name: str) -> str:
        """A file's address."""
        return self._repository.files.where(self.commit, name)

    def _file(self, name: str) -> HubFile:
        found = self._files.get(name)
        if found is None:
            raise DataError(f"{self.at(name)}: it is missing")
        return found

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object."""
        return json_object(self._repository.small(self.commit, name, self._file(name)), where=self.at(name))

    def tensors(self, name: str) -> TensorFile:
        """A safetensors file, by range; the tensors of a pickle, which is downloaded as a whole."""
        if not is_pickle(name):
            return self._headers(name)
        if (pickles := self._repository.pickles) is None:
            raise DataError(f"{self.at(name)}: it is a pickle, and unpickling can run code: {ALLOW}")

        def fetch(target: Path) -> None:
            self.download(name, target, STRETCH)

        return pickles.open_fetched(fetch, key=self._file(name).identity, where=self.at(name))

    def is_pointer(self, name: str) -> bool:
        """Whether a small file is a pointer of git LFS: the Hub itself gives the files that pointers stand for."""
        file = self._file(name)
        return file.sha256 is None and is_pointer(self._repository.small(self.commit, name, file))

    @lru_cache(maxsize=256)  # noqa: B019 - headers only
    def _headers(self, name: str) -> TensorFile:
        file = self._file(name)
        if file.sha256 is None:  # in git itself: small, or it would not be there
            content = self._repository.small(self.commit, name, file)
            return TensorFile(
                lambda offset, length: content[offset : offset + length], len(content), where=self.at(name)
            )
        reader = self._repository.files.reader(self.commit, name, FileEntry(size=file.size, sha256=file.sha256))
        return TensorFile(reader, file.size, where=self.at(name), max_header=MAX_HEADER)

    def download(self, name: str, target: Path, stretch: int) -> None:
        """A file as a whole, compared with its digest.

        Raises:
            DataError: it is not what the Hub lists.
        """
        file = self._file(name)
        if file.sha256 is None:
            target.write_bytes(self._repository.small(self.commit, name, file))
            return
        read = self._repository.files.reader(self.commit, name, FileEntry(size=file.size, sha256=file.sha256))
        digest = hashlib.sha256()
        with target.open("wb") as out:
            for offset in range(0, file.size, stretch):
                content = read(offset, min(stretch, file.size - offset))
                digest.update(content)
                out.write(content)
        if digest.hexdigest() != file.sha256:
            target.unlink()
            raise DataError(f"{self.at(name)}: it is not the file that the Hub lists: try again")

    def peek(self, name: str) -> TensorFile:
        """The same: a range is compared with nothing before its file is whole."""
        return self.tensors(name)

    def known_digest(self, name: str) -> str | None:
        """What the Hub says."""
        return self._file(name).identity

    def place(self, name: str, target: Path) -> None:
        """A copy of it; raises as `download` does."""
        self.download(name, target, STRETCH)

    def check(self, name: str) -> None:
        """Nothing: commits do not change, and copies are their reader's own."""

    def sha256(self, name: str) -> str:
        """Digest of a file's content."""
        file = self._file(name)
        return file.sha256 or hashlib.sha256(self._repository.small(self.commit, name, file)).hexdigest()

    def unchecked(self, name: str, tensor: str) -> Mapping[str, str]:
        """Ranges that were read of a tensor before its file was at hand as a whole."""
        file = self._file(name)
        if file.sha256 is None or is_pickle(name):
            return {}
        tensors = self.tensors(name).tensors
        begin = min(one.offset for one in tensors.values())
        entry = FileEntry(size=file.size, sha256=file.sha256)
        return self._repository.files.unchecked(entry, begin, tensors[tensor].offset, tensors[tensor].nbytes)

    def confirms(self, name: str, unchecked: Mapping[str, str]) -> bool | None:
        """Whether they are those of the file; None while it is not at hand."""
        file = self._files.get(name)
        if file is None or file.sha256 is None:
            return not unchecked
        return self._repository.files.confirms(FileEntry(size=file.size, sha256=file.sha256), unchecked)

    def identity(self, name: str) -> str:
        """Its digest."""
        return self._file(name).identity

    def provenance(self) -> dict[str, str]:
        """Repository, revision and commit."""
        return {"repo": self._repository.client.repo, "revision": self.name, "commit": self.commit}
