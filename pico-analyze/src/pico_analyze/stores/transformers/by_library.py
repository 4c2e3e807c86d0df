"""Models that libraries make of other formats, in a process of its own; what they made lies in a temporary directory.

This process imports none of those libraries. Files are put into a directory of their own before, compared with their
digests, so that a library sees those and no others.
"""

from __future__ import annotations

import importlib.util
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING
from weakref import finalize

from pico_analyze.errors import DataError, PluginError
from pico_schema.files import discard_with_process

if TYPE_CHECKING:
    from pico_analyze.stores.transformers.files import ModelFiles

SECONDS = 600.0
"""Making a model may take so long, and a second more for each 16 MiB that it is made of."""
MEMORY = 16 << 30
"""Address space that making one may take beside 16 bytes for each that it is made of."""
_SLOWEST = 16 << 20
_COPIES = 16
_directories: dict[int, Path] = {}
_processes: list[_Process] = []
_lock, _making = Lock(), Lock()


def temporary() -> Path:
    """A new directory that goes with this process."""
    with _lock:
        root = _directories.get(os.getpid())
        if root is None:
            root = Path(tempfile.mkdtemp(prefix="pico-analyze-"))
            _directories[os.getpid()] = root
            finalize(_lock_owner, shutil.rmtree, root, ignore_errors=True)
            discard_with_process(root)
    return Path(tempfile.mkdtemp(dir=root))


class _Owner:
    """What temporary directories live as long as."""


_lock_owner = _Owner()


def made(request: Mapping[str, object], *, where: str, size: int, needs: Mapping[str, str]) -> Path:
    """The directory of a model that `make_model` makes.

    Args:
        request: What of what; see there.
        where: Path or address of what it is made of, for messages.
        size: Bytes of that.
        needs: Packages it needs → how to install them.

    Raises:
        PluginError: a package is not installed.
        DataError: the library refuses, or it takes more than the limits allow.
    """
    for package, install in needs.items():
        found = importlib.util.find_spec(package)
        if found is None or found.origin is None:
            raise PluginError(f"{where}: reading it needs {package}: {install}")
    out, seconds = temporary(), SECONDS + size / _SLOWEST
    asked = {**request, "out": str(out), "memory": MEMORY + _COPIES * size}
    with _making:
        error = _process().asked(asked, seconds, where)
    if error is not None:
        for place in (str(request[name]) for name in ("base", "adapter", "gguf") if name in request):
            error = error.replace(place, where)
        raise DataError(f"{where}: no model could be made of it: {error}")
    return out


class _Process:
    """The process, which imports the libraries once and answers one request after the other."""

    def __init__(self) -> None:
        offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        self.owner = os.getpid()
        self._running = subprocess.Popen(
            [sys.executable, "-m", "pico_analyze.stores.transformers.make_model"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **offline, "CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false"},
        )
        finalize(self, _end, self._running)

    @property
    def usable(self) -> bool:
        """Whether it is this process's own, and runs."""
        return self.owner == os.getpid() and self._running.poll() is None

    def asked(self, request: Mapping[str, object], seconds: float, where: str) -> str | None:
        """What it answers to a request: what went wrong, if anything."""
        pipes = self._running.stdin, self._running.stdout
        assert pipes[0] is not None and pipes[1] is not None
        with suppress(BrokenPipeError):
            pipes[0].write(json.dumps(request).encode() + b"\n")
            pipes[0].flush()
        ready, _, _ = select.select([pipes[1]], [], [], seconds)
        answer = pipes[1].readline() if ready else b""
        if not answer.endswith(b"\n"):
            _end(self._running)
            why = f"it took more than {seconds:g} s" if not ready else "it needs more memory than there is"
            raise DataError(f"{where}: making a model of it was stopped: {why}")
        error = json.loads(answer)["error"]
        return None if error is None else str(error)


def _process() -> _Process:
    if not _processes or not _processes[-1].usable:
        _processes[:] = [_Process()]
    return _processes[-1]


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


def placed(files: ModelFiles, names: list[str]) -> Path:
    """A directory with some files of a checkpoint, and no others."""
    directory = temporary()
    for name in names:
        files.place(name, directory / name)
    return directory
