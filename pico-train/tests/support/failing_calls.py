"""The calls that reach the disk below some folders, counted in this process; the N-th of them fails.

Python's own files are opened over a raw file that counts each read and write; the functions of `os` that the spool, the
journal and the lock use are counted as they are called. What lies elsewhere is left alone.
"""

from __future__ import annotations

import builtins
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

READS = frozenset({"open to read", "read", "pread"})
"""Kinds of call that a full disk answers as ever."""


class FailingCalls:
    """Counts the calls below `roots`; those that `fails(n, kind)` names, n from 1, raise OSError with `number`."""

    def __init__(self, roots: tuple[Path, ...], fails: Callable[[int, str], bool], number: int) -> None:
        self.roots = tuple(str(root) for root in roots)
        self.fails, self.number = fails, number
        self.calls: list[str] = []
        self.paths: list[str] = []
        """Of each call, the path, where it has one."""
        self.failed = 0
        self.handles: set[int] = set()

    def below(self, path: Any) -> bool:
        """Whether a path is watched."""
        return isinstance(path, str | os.PathLike) and str(os.fspath(path)).startswith(self.roots)

    def reach(self, kind: str, path: Any = None) -> None:
        """A call of some kind is about to be made."""
        self.calls.append(kind)
        self.paths.append("" if path is None else str(path))
        if self.fails(len(self.calls), kind):
            self.failed += 1
            raise OSError(self.number, os.strerror(self.number), None if path is None else str(path))

    @contextmanager
    def active(self) -> Iterator[FailingCalls]:
        """Inside, calls are counted, and fail."""
        replaced: dict[str, Any] = {"open": self._opening(os.open), "close": self._closing(os.close)}
        replaced |= {
            name: self._on_handle(name, getattr(os, name)) for name in ("write", "pread", "fsync", "ftruncate")
        }
        replaced |= {name: self._on_path(name, getattr(os, name)) for name in ("replace", "rename", "mkdir")}
        files = self._file_open(io.open)
        with patch.multiple(os, **replaced), patch.object(io, "open", files), patch.object(builtins, "open", files):
            yield self

    def _opening(self, real: Callable[..., int]) -> Callable[..., int]:
        def call(path: Any, flags: int, *more: Any, **named: Any) -> int:
            if not self.below(path):
                return real(path, flags, *more, **named)
            self.reach("open" if flags & (os.O_CREAT | os.O_RDWR | os.O_WRONLY) else "open to read", path)
            handle = real(path, flags, *more, **named)
            self.handles.add(handle)
            return handle

        return call

    def _closing(self, real: Callable[[int], None]) -> Callable[[int], None]:
        def call(handle: int) -> None:
            self.handles.discard(handle)
            real(handle)

        return call

    def _on_handle(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(handle: int, *more: Any) -> Any:
            if handle in self.handles:
                self.reach(name)
            return real(handle, *more)

        return call

    def _on_path(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *more: Any, **named: Any) -> Any:
            if self.below(path):
                self.reach(name, path)
            return real(path, *more, **named)

        return call

    def _file_open(self, real: Callable[..., Any]) -> Callable[..., Any]:
        calls = self

        class Raw(io.FileIO):
            def readinto(self, buffer: Any) -> int:
                calls.reach("read")
                return super().readinto(buffer)

            def readall(self) -> bytes:
                calls.reach("read")
                return super().readall()

            def write(self, content: Any) -> int:
                calls.reach("write")
                return super().write(content)

        def opening(file: Any, mode: str = "r", buffering: int = -1, *more: Any, **named: Any) -> Any:
            if not calls.below(file):
                return real(file, mode, buffering, *more, **named)
            calls.reach("open to read" if mode.strip("bt") == "r" else "open", file)
            plain = mode.replace("b", "").replace("t", "")
            raw = Raw(file, plain)
            calls.handles.add(raw.fileno())
            kind = io.BufferedRandom if "+" in plain else io.BufferedReader if plain == "r" else io.BufferedWriter
            buffered = kind(raw)  # type: ignore[arg-type]
            return buffered if "b" in mode else io.TextIOWrapper(buffered, *more, **named)

        return opening
