"""A cache of pieces of remote files, by content: bounded in size, shared between processes, checked when read.

A file is known by the sha256 of its whole content, so equal files of different revisions share their pieces. Each piece
carries its own digest; when the pieces of a file cover it (or nearly), the whole is compared with the file's digest,
and the names of its pieces say so from then on. What was used longest ago goes first.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from pico_analyze.errors import DataError
from pico_analyze.stores.known_digests import cache_root
from pico_schema.files import open_replacement

REMAINDER = 48 << 10
"""A file of which no more than this many bytes are missing is completed, so that all of it is proven."""
_KEY = re.compile(r"[0-9a-f]{64}")
_PIECE = re.compile(r"([0-9]{1,15})-([0-9]{1,15})(=?)")
_CHECKED = "="
"""What is added to the name of a piece of a file that was compared with its digest as a whole."""
_DIGEST = 32


def default_cache() -> Path:
    """Where blocks are kept: the folder ``hub`` of ``$PICO_CACHE``, or of where this platform keeps a user's caches."""
    return cache_root() / "hub"


class BlockCache:
    """Pieces of files under `root`, at most `limit` bytes of them.

    Args:
        root: A directory of its own.
        limit: Bound in bytes. A piece larger than it is not kept.
    """

    def __init__(self, root: Path, limit: int) -> None:
        self.root, self.limit = root, limit
        self._locks: dict[str, FileLock] = {}  # making one takes as long as taking it
        self._written = limit  # so that the first piece written looks at what is there

    def read(self, key: str, size: int, offset: int, length: int, fetch: Callable[[int, int], bytes]) -> bytes:
        """`length` bytes of the file `key` from `offset`: from the cache where it has them, else through `fetch`.

        Args:
            key: sha256 of the file's content.
            size: The file's size.
            offset: First byte.
            length: How many.
            fetch: (offset, length) → exactly those bytes, from the Hub.

        Raises:
            DataError: the file is complete now, and is not what its digest says.
        """
        return self.read_and_tell(key, size, offset, length, fetch)[0]

    def read_and_tell(
        self, key: str, size: int, offset: int, length: int, fetch: Callable[[int, int], bytes]
    ) -> tuple[bytes, bool]:
        """The same, and whether these bytes are of a file that was compared with its digest as a whole."""
        with self._locked(key) as folder:
            parts, position, end, fetched, checked = [], offset, offset + length, False, True
            while position < end:
                piece = self._piece_at(folder, position)
                if piece is None:
                    stop = min([end, *(first for first, *_ in _pieces(folder) if first > position)])
                    content = fetch(position, stop - position)
                    self._write(folder, position, content)
                    fetched, checked = True, False
                else:
                    content = piece.content[position - piece.first : end - piece.first]
                    checked &= piece.checked
                parts.append(content)
                position += len(content)
            if fetched:
                self._complete(folder, size, fetch)
            if not checked:
                checked = self._check_whole(folder, key, size)
        return parts[0] if len(parts) == 1 else b"".join(parts), checked

    def checked_part(self, key: str, offset: int, length: int) -> bytes | None:
        """Bytes of a file that was compared with its digest as a whole; None where they are not at hand."""
        parts, position, end = [], offset, offset + length
        with self._locked(key) as folder:
            while position < end:
                piece = self._piece_at(folder, position)
                if piece is None or not piece.checked:
                    return None
                parts.append(piece.content[position - piece.first : end - piece.first])
                position += len(parts[-1])
        return b"".join(parts)

    def forget(self, key: str) -> None:
        """Throw away what is kept of a file."""
        with self._locked(key) as folder:
            _clear(folder)

    def document(self, name: str) -> bytes | None:
        """A small file stored under a name of the caller's, or None."""
        piece = self._piece_at(self._folder(_name_key(name)), 0)
        return piece.content if piece else None

    def keep_document(self, name: str, content: bytes) -> None:
        """Store a small file under a name, in place of what was there."""
        with self._locked(_name_key(name)) as folder:
            _clear(folder)
            self._write(folder, 0, content)

    def _folder(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise DataError("a digest in the run's documents is not a sha256: they are damaged")
        return self.root / key[:2] / key

    @contextlib.contextmanager
    def _locked(self, key: str) -> Iterator[Path]:
        """The folder of a file, held by one thread of one process, so that no two fetch the same piece.

        Where nothing can be written or locked, no one is waited for: pieces are complete in themselves.
        """
        folder = self._folder(key)
        lock = self._locks.get(key) or self._locks.setdefault(key, FileLock(folder / ".lock", poll_interval=0.01))
        with contextlib.ExitStack() as held:
            with contextlib.suppress(OSError, NotImplementedError):
                folder.mkdir(parents=True, exist_ok=True)
                held.enter_context(lock)
            yield folder

    def _piece_at(self, folder: Path, position: int) -> _Piece | None:
        """A sound piece that holds `position`; one that was checked, where there is a choice."""
        for first, last, mark in sorted(_pieces(folder), key=lambda piece: not piece[2]):
            if not first <= position < last:
                continue
            path = folder / f"{first}-{last}{mark}"
            try:
                raw = path.read_bytes()
            except OSError:
                continue
            content = raw[_DIGEST:]
            if len(content) == last - first and hashlib.sha256(content).digest() == raw[:_DIGEST]:
                with contextlib.suppress(OSError):  # it stays readable where nothing can be written
                    os.utime(path)
                return _Piece(first, content, bool(mark))
            _remove(path)
        return None

    def _write(self, folder: Path, first: int, content: bytes) -> None:
        if not content or len(content) > self.limit:
            return
        try:
            with open_replacement(folder / f"{first}-{first + len(content)}", durable=False) as file:
                file.write(hashlib.sha256(content).digest())
                file.write(content)
        except OSError:  # a cache that cannot be written is no reason to fail
            return
        self._written += len(content)
        if self._written > self.limit // 20:
            self._evict()
            self._written = 0

    def _evict(self) -> None:
        """Remove what was used longest ago until nine tenths of the bound remain (if it is passed)."""
        found = []
        for path in self.root.glob("*/*/*-*"):
            with contextlib.suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in found)
        if total <= self.limit:
            return
        for _, size, path in sorted(found):
            _remove(path)
            total -= size
            if total <= self.limit * 9 // 10:
                return

    def _complete(self, folder: Path, size: int, fetch: Callable[[int, int], bytes]) -> None:
        """Fetch what little is missing of a file, so that its digest can be checked."""
        gaps, end = [], 0
        for first, last, _ in [*_pieces(folder), (size, size, "")]:
            if first > end:
                gaps.append((end, first - end))
            end = max(end, last)
        if sum(length for _, length in gaps) <= REMAINDER:
            for first, length in gaps:
                self._write(folder, first, fetch(first, length))

    def _check_whole(self, folder: Path, key: str, size: int) -> bool:
        """If the pieces cover the file, compare its digest; pieces of a wrong file are thrown away."""
        end = 0
        for first, last, _ in _pieces(folder):
            if first > end:
                return False
            end = max(end, last)
        if end < size:
            return False
        digest, position = hashlib.sha256(), 0
        while position < size:
            piece = self._piece_at(folder, position)
            if piece is None:
                return False
            digest.update(piece.content[position - piece.first :])
            position = piece.first + len(piece.content)
        if digest.hexdigest() != key:
            _clear(folder)
            raise DataError(
                f"what came from the Hub does not have the sha256 {key[:12]}… that its manifest says: "
                "it was damaged on its way, or the revision is wrong; try again"
            )
        for first, last, mark in _pieces(folder):
            if not mark:
                with contextlib.suppress(OSError):
                    (folder / f"{first}-{last}").replace(folder / f"{first}-{last}{_CHECKED}")
        return True


@dataclass(frozen=True)
class _Piece:
    first: int
    content: bytes
    checked: bool


def _pieces(folder: Path) -> list[tuple[int, int, str]]:
    """First byte, end and mark of each piece of a file, in order."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - half the time of Path.iterdir, once per tensor
    except OSError:
        return []
    found = (_PIECE.fullmatch(name) for name in names)
    return sorted((int(match[1]), int(match[2]), match[3]) for match in found if match)


def _clear(folder: Path) -> None:
    for first, last, mark in _pieces(folder):
        _remove(folder / f"{first}-{last}{mark}")


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _name_key(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
