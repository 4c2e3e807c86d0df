"""How many processes, and how large their blocks, fit the memory that a preparation may take."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from pico_train.counting import counted
from pico_train.errors import ConfigError

BASE = 160 * 2**20
"""The command itself: Python, numpy, pyarrow, its batches of text."""
WORKER = 110 * 2**20
"""A process that tokenizes: Python, numpy, the tokenizer with its cache, one batch."""

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


@dataclass(frozen=True)
class Budget:
    """What a preparation may use."""

    workers: int
    """Processes that tokenize; 1 tokenizes in the command itself."""
    training_bytes: int
    """Text to train a tokenizer on."""
    block_bytes: int
    """Rows held at once while shards are written."""


def parse_size(text: str) -> int:
    """Bytes in "512MB", "2GiB", "1000000".

    Raises:
        ConfigError: not a size.
    """
    match = re.fullmatch(r"\s*([0-9]{1,18}(?:\.[0-9]+)?)\s*([kmgt]i?)?b?\s*", text.lower())
    if match is None:
        raise ConfigError(f"--memory {text}: not a size: write it as 512MB or 2GB")
    return int(float(match[1]) * _UNITS[match[2] or ""])


def plan_memory(memory: str, workers: int | None) -> Budget:
    """The budget for an amount of memory.

    Args:
        memory: What all processes may take together, such as "2GB".
        workers: Processes asked for; None takes as many as there are cores and memory.

    Raises:
        ConfigError: not a size, or too little for the processes asked for.
    """
    size = parse_size(memory)
    least = BASE + WORKER
    if size < least:
        raise ConfigError(f"--memory {memory}: too little: at least {-(-least // 10**6)}MB are needed")
    fit = max(1, (size - BASE) // WORKER)
    if workers is not None and workers > fit:
        needed = -(-(BASE + workers * WORKER) // 10**6)
        raise ConfigError(
            f"--memory {memory}: too little for {counted(workers, 'worker')}, {needed}MB are needed: {fit} would fit"
        )
    count = workers or min(
        fit, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    spare = size - BASE
    return Budget(count, training_bytes=min(64 * 2**20, spare // 16), block_bytes=min(256 * 2**20, spare // 8))
