"""Disks that fail: they count the writer's calls, kill or refuse at the N-th, and forget what was never synced."""

from __future__ import annotations

import errno
import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pico_train.checkpoint.storage import Disk


class CountingDisk(Disk):
    """Counts every call that changes or syncs something: mkdir, open, write, fsync, rename, fsync of a directory."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def _call(self, kind: str, path: Path | None = None) -> None:
        self.calls.append(f"{kind} {path.name if path else ''}".strip())
        self.reached(len(self.calls), kind)

    def reached(self, n: int, kind: str) -> None:
        """What happens before call number `n` (from 1)."""

    def make_directory(self, path: Path) -> None:
        self._call("mkdir", path)
        super().make_directory(path)

    def open(self, path: Path) -> int:
        self._call("open", path)
        return super().open(path)

    def write(self, handle: int, content: memoryview) -> None:
        self.half = lambda: os.write(handle, content[: len(content) // 2])
        self._call("write")
        super().write(handle, content)

    def fsync(self, _handle: int) -> None:
        self._call("fsync")  # the tests' power never fails: the call is counted, the real disk left alone

    def rename(self, source: Path, target: Path) -> None:
        self._call("rename", target)
        super().rename(source, target)

    def fsync_directory(self, path: Path) -> None:
        self._call("fsync-directory", path)


class KillingDisk(CountingDisk):
    """Kills the process at call `n`: before it, or with `torn` in the middle, where it is a write."""

    def __init__(self, n: int, *, torn: bool = False) -> None:
        super().__init__()
        self.n, self.torn = n, torn

    def reached(self, n: int, kind: str) -> None:
        if n == self.n:
            if self.torn and kind == "write":
                self.half()
            os.kill(os.getpid(), signal.SIGKILL)


class RefusingDisk(CountingDisk):
    """Answers call `n` with an error; with `persistent`, every one after it too."""

    def __init__(self, n: int, number: int, *, persistent: bool) -> None:
        super().__init__()
        self.n, self.number, self.persistent = n, number, persistent
        self.refused = 0

    def reached(self, n: int, kind: str) -> None:
        if n == self.n or (self.persistent and n > self.n):
            self.refused += 1
            if kind == "write" and self.number == errno.ENOSPC:
                self.half()  # a full disk takes what still fits
            raise OSError(self.number, os.strerror(self.number))


@dataclass
class _File:
    content: bytes = b""
    durable: bytes = b""


@dataclass
class _Directory:
    entries: dict[str, _File | _Directory] = field(default_factory=dict)
    durable: dict[str, _File | _Directory] = field(default_factory=dict)
    pending: list[tuple[str, _File | _Directory | None]] = field(default_factory=list)
    """Changes of entries since the last sync, in order; None removes."""


class ForgetfulDisk(CountingDisk):
    """Performs every call, and knows what a power cut at any moment could leave behind.

    The model is POSIX's minimum: a file's content is durable once the file was synced; the entries of a directory are
    durable once the directory was synced, whatever happened to the files; between syncs, the disk may have kept any
    beginning of the changes of a directory's entries, and any beginning of a file's unsynced content or none of it.

    Args:
        root: Directory whose tree is modelled; what is there is durable.
        ignored: Calls that are made but do nothing for durability, to show that the suite would notice.
        after: Called after each call, with this disk.
    """

    def __init__(
        self, root: Path, *, ignored: tuple[str, ...] = (), after: Callable[[ForgetfulDisk], None] | None = None
    ) -> None:
        super().__init__()
        self.root, self.ignored, self.after = root, ignored, after
        self.tree = _read(root)
        self.handles: dict[int, _File] = {}

    def _find(self, path: Path) -> _File | _Directory:
        found: _File | _Directory = self.tree
        for part in path.relative_to(self.root).parts:
            assert isinstance(found, _Directory)
            found = found.entries[part]
        return found

    def _change(self, path: Path, to: _File | _Directory | None) -> None:
        parent = self._find(path.parent)
        assert isinstance(parent, _Directory)
        if to is None:
            parent.entries.pop(path.name, None)
        else:
            parent.entries[path.name] = to
        parent.pending.append((path.name, to))

    def _done(self) -> None:
        if self.after is not None:
            self.after(self)

    def make_directory(self, path: Path) -> None:
        super().make_directory(path)
        self._change(path, _Directory())
        self._done()

    def open(self, path: Path) -> int:
        handle = super().open(path)
        self.handles[handle] = _File()
        self._change(path, self.handles[handle])
        self._done()
        return handle

    def open_log(self, path: Path) -> int:
        handle = super().open_log(path)
        found = self._find(path)
        assert isinstance(found, _File)
        self.handles[handle] = found
        return handle

    def write(self, handle: int, content: memoryview) -> None:
        super().write(handle, content)
        self.handles[handle].content += bytes(content)
        self._done()

    def fsync(self, handle: int) -> None:
        super().fsync(handle)
        if "fsync" not in self.ignored:
            self.handles[handle].durable = self.handles[handle].content
        self._done()

    def rename(self, source: Path, target: Path) -> None:
        moved = self._find(source)
        super().rename(source, target)
        self._change(target, moved)
        self._change(source, None)
        self._done()

    def fsync_directory(self, path: Path) -> None:
        super().fsync_directory(path)
        directory = self._find(path)
        assert isinstance(directory, _Directory)
        if "fsync-directory" not in self.ignored:
            directory.durable, directory.pending = dict(directory.entries), []
        self._done()

    def remove(self, path: Path) -> None:
        existed = path.exists()
        super().remove(path)
        if existed:
            self._change(path, None)

    def after_power_cut(self, target: Path, how: str, seed: int = 0) -> Path:
        """Write to `target` what a power cut now may leave.

        Args:
            target: A directory that does not exist.
            how: `least`: only what was synced. `names`: every change of names, but only synced content. `some`: at
                random in between.
            seed: For `some`.
        """
        _write(self.tree, target, how, random.Random(seed))
        return target


def _read(path: Path) -> _Directory:
    directory = _Directory()
    for entry in path.iterdir():
        if entry.is_dir():
            directory.entries[entry.name] = _read(entry)
        else:
            content = entry.read_bytes()
            directory.entries[entry.name] = _File(content, content)
    directory.durable = dict(directory.entries)
    return directory


def _write(directory: _Directory, target: Path, how: str, chance: random.Random) -> None:
    target.mkdir()
    entries = dict(directory.durable)
    happened = {"least": 0, "names": len(directory.pending)}.get(how, chance.randint(0, len(directory.pending)))
    for name, item in directory.pending[:happened]:
        if item is None:
            entries.pop(name, None)
        else:
            entries[name] = item
    for name, item in entries.items():
        if isinstance(item, _Directory):
            _write(item, target / name, how, chance)
        else:
            kept = len(item.durable)
            if how == "some":
                kept = chance.choice([kept, len(item.content), chance.randint(kept, len(item.content))])
            (target / name).write_bytes(item.content[:kept])
