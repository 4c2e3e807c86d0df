"""Text to ids, in batches, on all cores, in the order given.

With one worker, the tokenizer's own threads do the work inside this process. With more, processes do, each with one
thread. Batches come back in the order they went in, so the number of workers changes nothing but the time.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from threading import Thread

import numpy as np

from pico_train.checkpoint.signals import STOPPING
from pico_train.data.encoding import Found, TextEncoder, TextPart
from pico_train.errors import StorageError

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


@dataclass(frozen=True)
class EncodedPieces:
    """A batch of pieces and its ids."""

    pieces: list[Piece]
    """As they went in."""
    ids: np.ndarray
    """(n,) int32: the ids of the pieces end to end, an end-of-text token after each that ends its document."""
    lengths: np.ndarray
    """(pieces,) int64: how many ids each piece has."""
    found: Found
    """What was met in the texts."""


_Result = tuple[np.ndarray, np.ndarray, Found]


def encode(
    batches: Iterable[list[Piece]], tokenizer_dir: Path, *, eos_id: int, workers: int
) -> Generator[EncodedPieces, None, None]:
    """Ids of each batch, in order.

    Args:
        batches: Lists of pieces.
        tokenizer_dir: Directory of the tokenizer.
        eos_id: Id put after each piece that ends its document.
        workers: 1: in this process. More: that many processes.

    Raises:
        DataError: the tokenizer cannot be used, or not on one of these texts.
        StorageError: one of the processes was ended from outside.
    """
    if workers <= 1:
        encoder = TextEncoder(tokenizer_dir)
        for batch in batches:
            yield EncodedPieces(batch, *_encode(encoder, eos_id, *_texts(batch)))
        return
    pool = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_begin, initargs=(tokenizer_dir, eos_id)
    )
    waiting: deque[tuple[list[Piece], Future[_Result]]] = deque()
    others = set(active_children())
    try:
        for batch in batches:
            with _signals_stay_here():
                waiting.append((batch, pool.submit(_encode_in_worker, *_texts(batch))))
            if len(waiting) > 2 * workers:
                done, result = waiting.popleft()
                yield EncodedPieces(done, *result.result())
        while waiting:
            done, result = waiting.popleft()
            yield EncodedPieces(done, *result.result())
    except BrokenProcessPool:
        raise StorageError(
            "a process that tokenizes was ended from outside, perhaps for want of memory: run the same command again, "
            "with fewer --workers; it goes on from where it stopped"
        ) from None
    except BaseException:
        for worker in set(active_children()) - others:  # what they are at is not waited for
            worker.kill()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _signals_stay_here() -> Iterator[None]:
    """Processes that are started inside see none of the signals that stop the command: it ends them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _texts(batch: list[Piece]) -> tuple[list[TextPart], list[bool]]:
    """What is encoded, and after which of it a document ends."""
    parts = [TextPart(piece.text, piece.begins, f"a document of {piece.source}") for piece in batch]
    return parts, [piece.ends for piece in batch]


_worker: tuple[TextEncoder, int] | None = None
"""In a worker process: its tokenizer, and the id of end-of-text."""


def _begin(tokenizer_dir: Path, eos_id: int) -> None:
    """Prepare this worker: load its tokenizer, end when the command does."""
    global _worker
    Thread(target=_end_with_the_command, daemon=True).start()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _worker = TextEncoder(tokenizer_dir), eos_id


def _end_with_the_command() -> None:
    """A worker whose command was killed would wait for work for ever."""
    command = parent_process()
    if command is not None:
        command.join()
        os._exit(1)


def _encode_in_worker(parts: list[TextPart], ends: list[bool]) -> _Result:
    assert _worker is not None
    return _encode(*_worker, parts, ends)


def _encode(encoder: TextEncoder, eos_id: int, parts: list[TextPart], ends: list[bool]) -> _Result:
    found = Found()
    eos = np.array([eos_id], np.int32)
    encoded = encoder.encode(parts, found)
    runs = [run for ids, ended in zip(encoded, ends, strict=True) for run in ((ids, eos) if ended else (ids,))]
    lengths = np.array([len(ids) + ended for ids, ended in zip(encoded, ends, strict=True)], np.int64)
    return np.concatenate(runs) if runs else np.empty(0, np.int32), lengths, found
