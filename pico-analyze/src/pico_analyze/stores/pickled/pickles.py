"""Pickles as tensor files: opened by a subprocess with limits, once each, kept for the time of the analysis.

This process never unpickles. It needs torch installed (the extra ``torch``), not imported.
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
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock

from pico_analyze.errors import DataError
from pico_analyze.stores.checked_file import CheckedFile, file_size, read_file_range
from pico_analyze.stores.lfs import MAX_POINTER, WHAT_A_POINTER_IS, is_pointer
from pico_analyze.stores.safetensors import TensorFile
from pico_schema.files import discard_with_process

INSTALL = "pip install 'pico-analyze[torch]'"
SECONDS = 120.0
"""A pickle that is not read after so long is refused."""
MEMORY = 8 * 2**30
"""Address space that reading one may take, in bytes."""
_SLOWEST = 16 * 2**20
"""Bytes a second that reading a model takes at worst."""
_COPIES = 3
"""How often a model is in memory while it is read."""

Fetch = Callable[[Path], None]
"""Writes a file to a path, compared with its digest."""


class Pickles:
    """Opens pickles; what came out of them lies in a temporary directory that goes with this object. Threads wait for
    one another.

    Args:
        model: Whether they are the weights of models: see `unpickle`. Their files may be large, so that limits grow
            with them.
        seconds: How long reading one may take.
        memory: Address space that reading one may take, in bytes.
    """

    def __init__(self, *, model: bool = False, seconds: float = SECONDS, memory: int = MEMORY) -> None:
        self._model, self._seconds, self._memory = model, seconds, memory
        self._opened: dict[str, TensorFile] = {}
        self._directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._allowed = 0
        self._lock = Lock()

    @property
    def directory(self) -> Path:
        """The temporary directory."""
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="pico-analyze-"))
            weakref.finalize(self, shutil.rmtree, self._directory, ignore_errors=True)
            discard_with_process(self._directory)
        return self._directory

    def open(self, path: Path) -> TensorFile:
        """The tensors of a pickle.

        Raises:
            DataError: torch is not installed, or the pickle is not a dict of tensors, too large, or takes too long.
        """
        with self._lock:
            if str(path) not in self._opened:
                self._opened[str(path)] = self._converted(path, str(path))
        return self._opened[str(path)]

    def open_checked(self, file: CheckedFile) -> TensorFile:
        """The tensors of a pickle that has the digest it must have, before it is opened and after.

        Raises:
            DataError: as `open`; or it is not what it was.
        """
        file.check()
        opened = self.open(file.path)
        file.check()
        return opened

    def open_directory(self, path: Path, parts: Sequence[CheckedFile]) -> TensorFile:
        """The tensors of a distributed checkpoint, each of whose files has the digest it must have, before it is opened
        and after; raises as `open` does, or one is not what it was."""
        for part in parts:
            part.check()
        with self._lock:
            if str(path) not in self._opened:
                self._opened[str(path)] = self._converted(path, str(path))
        for part in parts:
            part.check()
        return self._opened[str(path)]

    def open_fetched(self, fetch: Fetch, *, key: str, where: str) -> TensorFile:
        """The tensors of a pickle that lies elsewhere: fetched once, and thrown away once it was read.

        Args:
            fetch: Writes it to a path, checked.
            key: What stands for its content.
            where: Its address, for messages.
        """
        with self._lock:
            if key not in self._opened:
                target = self.directory / f"{len(self._opened)}.pickle"
                try:
                    fetch(target)
                    self._opened[key] = self._converted(target, where)
                finally:
                    target.unlink(missing_ok=True)
        return self._opened[key]

    def _converted(self, path: Path, where: str) -> TensorFile:
        out = self.directory / f"{len(self._opened)}.safetensors"
        try:
            self._convert(path, out, where)
        except DataError:
            out.unlink(missing_ok=True)
            raise
        return TensorFile.open(out, where=where)

    def _convert(self, path: Path, out: Path, where: str) -> None:
        if not path.exists():
            raise DataError(f"{where}: it is missing")
        size = sum(map(file_size, path.iterdir())) if path.is_dir() else file_size(path)
        if path.is_file() and size < MAX_POINTER and is_pointer(read_file_range(path, 0, size)):
            raise DataError(f"{where}: {WHAT_A_POINTER_IS}")
        large = size if self._model else 0
        process, seconds = self._running(large), self._seconds + large / _SLOWEST
        assert process.stdin is not None and process.stdout is not None
        facts = {"path": str(path.resolve()), "out": str(out), "model": self._model}
        try:
            process.stdin.write(json.dumps(facts).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            self.close()
            raise DataError(f"{where}: the process that opens pickles ended: does `import torch` work?") from None
        ready, _, _ = select.select([process.stdout], [], [], seconds)
        answer = process.stdout.readline() if ready else b""
        if not answer.endswith(b"\n"):
            why = f"it took more than {seconds:g} s" if not ready else "it needs more than the limits allow"
            self.close()
            raise DataError(f"{where}: reading this pickle was stopped: {why}")
        error = json.loads(answer)["error"]
        if error is not None:
            raise DataError(f"{where}: refused: {error}")

    def _running(self, size: int) -> subprocess.Popen[bytes]:
        """The process, allowed what a file of this size may take."""
        needed = self._memory + _COPIES * size
        if self._process is None or self._process.poll() is not None or needed > self._allowed:
            self.close()
            found = importlib.util.find_spec("torch")
            if found is None or found.origin is None:  # a mere folder called torch is none
                what = "these weights" if self._model else "captures of Pico 1.0"
                raise DataError(f"{what} are pickles, and reading them needs torch: {INSTALL}")
            command = [sys.executable, "-m", "pico_analyze.stores.pickled.unpickle", str(needed), str(needed)]
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
            self._allowed = needed
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
            )
            weakref.finalize(self, _end, self._process)
        return self._process

    def close(self) -> None:
        """End the subprocess; the next pickle starts another."""
        if self._process is not None:
            _end(self._process)
            self._process = None


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
