"""Checkpoints at any place that fsspec knows: ``s3://bucket/run``, ``gs://…``, ``memory://…``. Read by range.

Such places tell no digest of a file's content: what stands for it is what they do tell (an ETag, or the time of the
last change, and the size), and rows name the ranges that were read, with the digest of each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from pico_analyze.errors import DataError, NotARunError, PicoAnalyzeError, PluginError, StorageError
from pico_analyze.stores.json_file import MAX_JSON, json_object
from pico_analyze.stores.lfs import is_pointer
from pico_analyze.stores.safetensors import TensorFile
from pico_analyze.stores.transformers.pickled_files import ALLOW, is_pickle

if TYPE_CHECKING:
    from pico_analyze.stores.pickled.pickles import Pickles

MAX_FILES = 1_000_000
_STRETCH = 32 << 20
_TOLD = (
    "ETag",
    "etag",
    "md5Hash",
    "content_md5",
    "generation",
    "LastModified",
    "last_modified",
    "mtime",
    "updated",
    "created",
)


@dataclass(frozen=True)
class PlaceFile:
    """What a place says of a file."""

    path: str
    """Its full path there."""
    size: int
    """Its bytes."""
    identity: str
    """What changes when its content does, as far as the place tells."""


@dataclass(frozen=True)
class Place:
    """A folder at a place: its file system, and the files up to one folder down."""

    url: str
    """Its address."""
    system: Any = field(repr=False)
    """The fsspec file system."""
    folders: Mapping[str, Mapping[str, PlaceFile]] = field(repr=False)
    """Name of a folder in it ("" for itself) → its files by name."""

    def read(self, file: PlaceFile, offset: int, length: int) -> bytes:
        """`length` bytes of a file from `offset`.

        Raises:
            DataError: there are fewer.
            StorageError: the place fails.
        """
        try:
            content: bytes = self.system.cat_file(file.path, start=offset, end=offset + length)
        except Exception as error:
            raise _failed(f"{self.url}: {file.path}", error) from None
        if len(content) != length:
            raise DataError(f"{self.url}: {file.path}: it ends after {offset + len(content)} bytes: it was changed")
        return content


def look_at(url: str) -> Place:
    """What lies in a folder.

    Raises:
        PluginError: the package for this kind of place is not installed.
        NotARunError: there is no such folder.
        DataError: there is too much.
        StorageError: the place cannot be reached, or refuses.
    """
    from fsspec.core import url_to_fs

    try:
        system, root = url_to_fs(url)
    except ImportError as error:
        raise PluginError(f"{url}: reading there needs a package that is not installed: {_first_line(error)}") from None
    except Exception as error:
        raise _failed(url, error) from None
    try:
        found = system.find(root, maxdepth=2, detail=True)
    except FileNotFoundError:
        found = {}
    except Exception as error:
        raise _failed(url, error) from None
    if not found:
        raise NotARunError(f"{url}: there is nothing: check the address")
    if len(found) > MAX_FILES:
        raise DataError(f"{url}: more than {MAX_FILES:,} files lie there: name the folder of one run")
    folders: dict[str, dict[str, PlaceFile]] = {}
    base = root.rstrip("/") + "/"
    for path, facts in found.items():
        folder, _, name = path.removeprefix(base).rpartition("/")
        size = facts.get("size")
        if facts.get("type") == "file" and type(size) is int and "/" not in folder:
            told = [f"{key} {facts[key]}" for key in _TOLD if facts.get(key) is not None]
            folders.setdefault(folder, {})[name] = PlaceFile(path, size, "; ".join(told) or "nothing told")
    return Place(url.rstrip("/"), system, folders)


class PlaceFiles:
    """The files of one checkpoint at a place."""

    sealed, remade = True, False

    def __init__(self, place: Place, folder: str, pickles: Pickles | None = None) -> None:
        self._place, self._files, self._pickles = place, place.folders.get(folder, {}), pickles
        self.pickles_closed = ALLOW if pickles is None else None
        self.where = f"{place.url}/{folder}".rstrip("/")
        self.name = folder or place.url.rpartition("/")[2]
        self._ranges: dict[str, dict[tuple[int, int], str]] = {}
        self._lock = Lock()

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Bytes of each file."""
        return {name: file.size for name, file in self._files.items()}

    def at(self, name: str) -> str:
        """A file's address."""
        return f"{self.where}/{name}"

    def _file(self, name: str) -> PlaceFile:
        found = self._files.get(name)
        if found is None:
            raise DataError(f"{self.at(name)}: it is missing")
        return found

    @lru_cache(maxsize=16)  # noqa: B019 - configurations
    def json(self, name: str) -> dict[str, Any]:
        """A JSON object."""
        file = self._file(name)
        if file.size > MAX_JSON:
            raise DataError(
                f"{self.at(name)}: it has more than the {MAX_JSON} bytes that make sense: refusing to read it"
            )
        return json_object(self._place.read(file, 0, file.size), where=self.at(name))

    @lru_cache(maxsize=256)  # noqa: B019 - headers only
    def tensors(self, name: str) -> TensorFile:
        """A safetensors file, by range; the tensors of a pickle, which is fetched as a whole."""
        file = self._file(name)
        if is_pickle(name):
            return self._unpickled(name)

        def read(offset: int, length: int) -> bytes:
            content = self._place.read(file, offset, length)
            with self._lock:
                self._ranges.setdefault(name, {})[offset, length] = hashlib.sha256(content).hexdigest()
            return content

        return TensorFile(read, file.size, where=self.at(name))

    def _unpickled(self, name: str) -> TensorFile:
        if self._pickles is None:
            raise DataError(f"{self.at(name)}: it is a pickle, and unpickling can run code: {ALLOW}")

        def fetch(target: Path) -> None:
            self.place(name, target)
            with target.open("rb") as content, self._lock:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
                self._ranges.setdefault(name, {})[0, self._file(name).size] = digest

        return self._pickles.open_fetched(fetch, key=self.identity(name), where=self.at(name))

    def peek(self, name: str) -> TensorFile:
        """The same: nothing is compared with anything."""
        return self.tensors(name)

    def place(self, name: str, target: Path) -> None:
        """A copy of it."""
        file = self._file(name)
        with target.open("wb") as out:
            for offset in range(0, file.size, _STRETCH):
                out.write(self._place.read(file, offset, min(_STRETCH, file.size - offset)))

    def check(self, name: str) -> None:
        """Nothing: there is nothing to compare it with."""

    def known_digest(self, name: str) -> str | None:
        """None: an ETag may be that of a content or of an upload."""
        del name
        return None

    def is_pointer(self, name: str) -> bool:
        """Whether a small file is a pointer of git LFS."""
        file = self._file(name)
        return is_pointer(self._place.read(file, 0, file.size))

    def sha256(self, name: str) -> str:
        """What stands for its digest, which the place does not tell."""
        file = self._file(name)
        return f"not told; {file.size} bytes; {file.identity}"

    def unchecked(self, name: str, tensor: str) -> Mapping[str, str]:
        """What was read of a tensor, and of the header before all of them; of a pickle, all of it."""
        if is_pickle(name):
            self.tensors(name)
            with self._lock:
                return {f"{offset}+{length}": sha for (offset, length), sha in self._ranges.get(name, {}).items()}
        tensors = self.tensors(name).tensors
        begin, own = min(one.offset for one in tensors.values()), tensors[tensor]
        with self._lock:
            ranges = dict(self._ranges.get(name, {}))
        return {
            f"{offset}+{length}": digest
            for (offset, length), digest in ranges.items()
            if offset < begin or own.offset <= offset < own.offset + own.nbytes
        }

    def confirms(self, name: str, unchecked: Mapping[str, str]) -> bool | None:
        """No one can tell."""
        del name
        return None if unchecked else True

    def identity(self, name: str) -> str:
        """What the place tells of it."""
        file = self._file(name)
        return f"{file.path}; {file.size}; {file.identity}"

    def provenance(self) -> dict[str, str]:
        """The address."""
        return {"place": self.where}


def _failed(where: str, error: Exception) -> PicoAnalyzeError:
    if isinstance(error, PicoAnalyzeError):
        return error
    kind = "it is missing" if isinstance(error, FileNotFoundError) else f"{type(error).__name__}: {_first_line(error)}"
    return StorageError(f"{where}: reading failed ({kind}): check the address, the network and your credentials")


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:300] if lines else "no reason given"
