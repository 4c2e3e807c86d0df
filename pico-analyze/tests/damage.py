"""What is done to worker processes in tests: importable on them, and undone by a second call."""

import resource
from collections.abc import Callable
from dataclasses import replace
from functools import partialmethod
from pathlib import Path

import pico_analyze
from pico_analyze.engine import versions
from pico_analyze.stores.local import LocalStore
from pico_analyze.table import store


def blind(on: bool = True) -> None:
    """Not see the mark that says that a directory is the command's, as on a machine with another file system."""
    store.is_current = (lambda *_: False) if on else _IS_CURRENT


def limit_files(limits: tuple[int, int]) -> None:
    """Let no file grow beyond a size, as a disk with so little left."""
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def pretend_version(version: str | None) -> None:
    """Have another version of pico-analyze installed."""
    versions._OURS["pico_analyze"] = version or pico_analyze.__version__
    versions.package_version.cache_clear()


def hide(path: str | None) -> None:
    """Make a path look absent, as on a machine with another file system."""
    for name, real in _LOOKS.items():
        setattr(Path, name, real if path is None else partialmethod(_looked, real, path))


def _looked(path: Path, real: Callable[[Path], bool], root: str) -> bool:
    return not str(path).startswith(root) and real(path)


def other_digests(on: bool = True) -> None:
    """See other checkpoints than there are."""
    LocalStore.steps = _other_steps if on else _STEPS


def _other_steps(self: LocalStore):
    return tuple(replace(info, digest="0" * 64) for info in _STEPS(self))


_IS_CURRENT, _STEPS = store.is_current, LocalStore.steps
_LOOKS = {name: getattr(Path, name) for name in ("exists", "is_file", "is_dir")}
