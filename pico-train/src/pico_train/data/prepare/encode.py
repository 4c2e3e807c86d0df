"""Text to ids, in batches, on all cores, in the order given.

With one worker, the tokenizer's own threads do the work inside this process. With more, processes do, each with one
thread. Batches come back in the order they went in, so the number of workers changes nothing but the time.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import numpy as np

from pico_train.data.tokenizer import load

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BATCH_CHARS = 2**18
"""Characters in a batch: a tokenizer needs some 50 bytes of memory for each."""


@dataclass(frozen=True)
class Piece:
    """A part of a document, small enough to be encoded at once."""

    text: str
    """Its text."""
    split: str
    """Where it goes: train or val."""
    group: str
    """Line of tokens that it is laid on: pieces of different groups never share a row."""
    source: str
    """Where it is from."""
    begins: bool
    """Whether the document begins here."""
    ends: bool
    """Whether the document ends here, so that an end-of-text token follows."""
    after: tuple[int, int] = (0, 0)
    """Where reading goes on after it: documents done, pieces of the next one done."""


def encode(
    batches: Iterable[list[Piece]], tokenizer_dir: Path, *, eos_id: int, workers: int
) -> Iterator[tuple[list[Piece], np.ndarray, np.ndarray]]:
    """Ids of each batch, in order.

    Args:
        batches: Lists of pieces.
        tokenizer_dir: Directory of the tokenizer.
        eos_id: Id put after each piece that ends its document.
        workers: 1: in this process. More: that many processes.

    Yields:
        The batch; (n,) int32, the ids of its pieces end to end; (pieces,) int64, how many ids each piece has.
    """
    if workers <= 1:
        tokenizer = load(tokenizer_dir)
        for batch in batches:
            yield batch, *_encode(tokenizer, eos_id, [piece.text for piece in batch], [piece.ends for piece in batch])
        return
    pool = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_begin, initargs=(tokenizer_dir, eos_id)
    )
    waiting: deque[tuple[list[Piece], Future[tuple[np.ndarray, np.ndarray]]]] = deque()
    try:
        for batch in batches:
            task = pool.submit(_encode_in_worker, [piece.text for piece in batch], [piece.ends for piece in batch])
            waiting.append((batch, task))
            if len(waiting) > 2 * workers:
                done, result = waiting.popleft()
                yield done, *result.result()
        while waiting:
            done, result = waiting.popleft()
            yield done, *result.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_worker: tuple[Tokenizer, int] | None = None
"""In a worker process: its tokenizer, and the id of end-of-text."""


def _begin(tokenizer_dir: Path, eos_id: int) -> None:
    """Prepare this worker: load its tokenizer, leave Ctrl-C to the command, end when the command does."""
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_the_command, daemon=True).start()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _worker = load(tokenizer_dir), eos_id


def _end_with_the_command() -> None:
    """A worker whose command was killed would wait for work for ever."""
    command = parent_process()
    if command is not None:
        command.join()
        os._exit(1)


def _encode_in_worker(texts: list[str], ends: list[bool]) -> tuple[np.ndarray, np.ndarray]:
    assert _worker is not None
    return _encode(*_worker, texts, ends)


def _encode(tokenizer: Tokenizer, eos_id: int, texts: list[str], ends: list[bool]) -> tuple[np.ndarray, np.ndarray]:
    parts: list[np.ndarray] = []
    eos = np.array([eos_id], np.int32)
    lengths = np.empty(len(texts), np.int64)
    for index, encoding in enumerate(tokenizer.encode_batch_fast(texts, add_special_tokens=False)):
        ids = np.asarray(encoding.ids, np.int32)
        parts.append(ids)
        if ends[index]:
            parts.append(eos)
        lengths[index] = len(ids) + ends[index]
    return np.concatenate(parts) if parts else np.empty(0, np.int32), lengths
