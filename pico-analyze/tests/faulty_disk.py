"""A disk that refuses, at the layer of files: the n-th call that reads, or that writes, under a directory.

What is refused is counted over opening, every read and write of a file (buffered ones when they reach the file),
replacing, making directories and locks: all that pico-analyze does to files goes through these.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_OPEN, _OS = io.open, {name: getattr(os, name) for name in ("replace", "mkdir", "open")}


class FaultyDisk:
    """Counts calls under `root`, and refuses the `at`-th of a kind; all that follow too, if it is `lasting`."""

    def __init__(self, root: Path, kind: str = "", at: int = -1, *, lasting: bool = False) -> None:
        self.root, self.kind, self.at, self.lasting = str(root), kind, at, lasting
        self.calls = {"read": 0, "write": 0}
        self.refused = 0

    def call(self, kind: str, path: object) -> None:
        if not str(path).startswith(self.root):
            return
        number = self.calls[kind]
        self.calls[kind] += 1
        if kind == self.kind and (number == self.at or (self.lasting and number > self.at)):
            self.refused += 1
            code = errno.EIO if kind == "read" else errno.ENOSPC
            raise OSError(code, os.strerror(code), str(path))

    def open(
        self, file: Any, mode: str = "r", buffering: int = -1, encoding: Any = None, *rest: Any, **more: Any
    ) -> Any:
        if isinstance(file, int) or not str(file).startswith(self.root):
            return _OPEN(file, mode, buffering, encoding, *rest, **more)
        reading = mode.strip("bt") == "r"
        self.call("read" if reading else "write", file)
        raw = _File(self, file, mode.replace("b", "").replace("t", ""))
        if buffering == 0:
            return raw
        buffered = io.BufferedReader(raw) if reading else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding or "utf-8")

    def replace(self, source: Any, target: Any, **more: Any) -> None:
        self.call("write", target)
        _OS["replace"](source, target, **more)

    def mkdir(self, path: Any, *rest: Any, **more: Any) -> None:
        self.call("write", path)
        _OS["mkdir"](path, *rest, **more)

    def os_open(self, path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if flags & os.O_CREAT:  # locks and marks
            self.call("write", path)
        descriptor: int = _OS["open"](path, flags, *rest, **more)
        return descriptor


class _File(io.FileIO):
    def __init__(self, disk: FaultyDisk, path: Any, mode: str) -> None:
        super().__init__(path, mode)
        self._disk = disk

    def readinto(self, buffer: Any) -> Any:
        self._disk.call("read", self.name)
        return super().readinto(buffer)

    def read(self, size: int = -1) -> Any:
        self._disk.call("read", self.name)
        return super().read(size)

    def readall(self) -> bytes:
        self._disk.call("read", self.name)
        return super().readall()

    def write(self, content: Any) -> Any:
        self._disk.call("write", self.name)
        return super().write(content)


@contextmanager
def on_disk(disk: FaultyDisk) -> Iterator[FaultyDisk]:
    """Every file is on this disk while the block runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(io, "open", disk.open)
        patch.setattr("builtins.open", disk.open)
        patch.setattr(os, "replace", disk.replace)
        patch.setattr(os, "mkdir", disk.mkdir)
        patch.setattr(os, "open", disk.os_open)
        yield disk
