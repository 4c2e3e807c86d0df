"""Pico 1.0's pickles as tensor files: opened by a subprocess with limits, once each, kept for the time of the analysis.

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
from contextlib import suppress
from pathlib import Path

from pico_analyze.errors import DataError
from pico_analyze.stores.pico_v1.names import INSTALL
from pico_analyze.stores.safetensors import TensorFile
from pico_schema.files import discard_with_process

SECONDS = 120.0
"""A pickle that is not read after so long is refused."""
MEMORY = 8 * 2**30
"""Address space that reading one may take, in bytes."""


class Pickles:
    """Opens pickles; what came out of them lies in a temporary directory that goes with this object."""

    def __init__(self, *, seconds: float = SECONDS, memory: int = MEMORY) -> None:
        self._seconds, self._memory = seconds, memory
        self._opened: dict[Path, TensorFile] = {}
        self._directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def open(self, path: Path) -> TensorFile:
        """The tensors of a pickle.

        Raises:
            DataError: torch is not installed, or the pickle is not a dict of tensors, too large, or takes too long.
        """
        if path not in self._opened:
            if self._directory is None:
                self._directory = Path(tempfile.mkdtemp(prefix="pico-analyze-"))
                weakref.finalize(self, shutil.rmtree, self._directory, ignore_errors=True)
                discard_with_process(self._directory)
            out = self._directory / f"{len(self._opened)}.safetensors"
            self._convert(path, out)
            self._opened[path] = TensorFile.open(out)
        return self._opened[path]

    def _convert(self, path: Path, out: Path) -> None:
        if not path.is_file():
            raise DataError(f"{path}: it is missing")
        process = self._running()
        assert process.stdin is not None and process.stdout is not None
        request = json.dumps({"path": str(path.resolve()), "out": str(out)}).encode() + b"\n"
        try:
            process.stdin.write(request)
            process.stdin.flush()
        except BrokenPipeError:
            self.close()
            raise DataError(f"{path}: the process that opens pickles ended: does `import torch` work?") from None
        ready, _, _ = select.select([process.stdout], [], [], self._seconds)
        answer = process.stdout.readline() if ready else b""
        if not answer.endswith(b"\n"):
            why = f"it took more than {self._seconds:g} s" if not ready else "it needs more than the limits allow"
            self.close()
            raise DataError(f"{path}: reading this pickle was stopped: {why}")
        error = json.loads(answer)["error"]
        if error is not None:
            raise DataError(f"{path}: refused: {error}")

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            found = importlib.util.find_spec("torch")
            if found is None or found.origin is None:  # a mere folder called torch is none
                raise DataError(f"captures of Pico 1.0 are pickles, and reading them needs torch: {INSTALL}")
            command = [
                sys.executable,
                "-m",
                "pico_analyze.stores.pico_v1.unpickle",
                str(self._memory),
                str(self._memory),
            ]
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
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
