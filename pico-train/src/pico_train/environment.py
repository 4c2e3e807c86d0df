"""What a run ran on: software versions, the caller's git revision, hardware. Nothing secret is read."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pico_schema
from pico_train.version import __version__

_OURS = {"pico-train": __version__, "pico-schema": pico_schema.__version__}
_PACKAGES = (
    "pico-train",
    "pico-schema",
    "torch",
    "lightning-fabric",
    "transformers",
    "tokenizers",
    "datasets",
    "numpy",
    "pyarrow",
    "safetensors",
)


def describe(directory: Path | None = None) -> dict[str, Any]:
    """Versions, git revision of `directory` (by default the working directory) and hardware, as plain values."""
    import torch

    found: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "git": _git(directory or Path.cwd()),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    if torch.cuda.is_available():
        found["cuda"] = torch.version.cuda
        found["gpus"] = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return found


def _version(name: str) -> str | None:
    """Of what runs: an editable package's metadata is that of the day it was installed."""
    if name in _OURS:
        return _OURS[name]
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git(directory: Path) -> dict[str, Any] | None:
    """Commit, and whether tracked files differ from it; None outside a checkout or without git."""

    def ask(*words: str) -> str:
        # Optional locks off: looking at a checkout must not write into it.
        command = ["git", "--no-optional-locks", "-C", str(directory), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "changed": bool(ask("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def is_first_rank() -> bool:
    """Whether this process is the only one of its run, or the first of those that a launcher started."""
    ranks = (os.environ.get(name) for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"))
    return next((rank for rank in ranks if rank is not None), "0") == "0"
