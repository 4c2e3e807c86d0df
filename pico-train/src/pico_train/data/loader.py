"""The loader: batches as tensors, read ahead by threads. Its state is the step and nothing else.

Letters: B rows of the global batch, W processes; this one takes B / W rows of T + 1 ids.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from pico_train.checkpoint.consumed import Consumed
from pico_train.counting import counted
from pico_train.data.order import Order, batch_digest, rank_slice, row_ids
from pico_train.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pico_train.data.corpus import Corpus


@dataclass(frozen=True)
class Batch:
    """One step's rows, as far as this process trains on them."""

    step: int
    """The update N → N + 1 that consumes them."""
    input_ids: torch.Tensor
    """(B / W, T + 1) int64: this process's rows."""
    row_ids: np.ndarray
    """(B,) int64: rows of the global batch, in order."""
    corpus: Corpus
    """Where they come from."""
    local: np.ndarray
    """(B / W, T + 1) int32: this process's rows, in host memory."""
    consumed: Consumed
    """What was consumed before this batch."""

    @cached_property
    def digest(self) -> str:
        """Digest of the whole global batch: equal on every process. Reads the others' rows when there are any."""
        return batch_digest(self.global_rows())

    def global_rows(self) -> np.ndarray:
        """(B, T + 1) int32: the whole global batch."""
        return self.local if len(self.local) == len(self.row_ids) else self.corpus.rows(self.row_ids)

    def sources(self) -> list[str]:
        """Where each row of the global batch is from."""
        return self.corpus.sources(self.row_ids)


class Loader:
    """Batches of a corpus, for one of several processes.

    Args:
        consumed: Where the rows go on: what was consumed before some step, under whatever batch size. Batches of
            earlier steps cannot be asked for.

    Raises:
        ConfigError: the batch cannot be shared evenly.
        DataError: the corpus has fewer rows than one batch.
    """

    def __init__(
        self,
        corpus: Corpus,
        *,
        batch_size: int,
        order: Order,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        prefetch: int = 4,
        threads: int = 1,
        device: torch.device | str = "cpu",
        consumed: Consumed | None = None,
    ) -> None:
        if corpus.n_rows < batch_size:
            raise DataError(
                f"the corpus has {counted(corpus.n_rows, 'row')} of {corpus.seq_len} tokens, fewer than a "
                f"batch of {batch_size}: set training.batch_size={max(corpus.n_rows, 1)} or less, or give more text"
            )
        try:
            self._share = rank_slice(batch_size, rank, world_size)
        except ValueError as error:
            raise ConfigError(f"training.batch_size: {error}") from None
        self.corpus, self.batch_size, self.order, self.seed = corpus, batch_size, order, seed
        self.prefetch, self.threads = prefetch, threads
        self.consumed = consumed or Consumed()
        self.device = torch.device(device)

    def row_ids(self, step: int) -> np.ndarray:
        """(B,) int64: rows of the global batch of a step."""
        return row_ids(
            step,
            batch_size=self.batch_size,
            n_rows=self.corpus.n_rows,
            order=self.order,
            seed=self.seed,
            position=self._consumed_before(step).rows,
        )

    def _consumed_before(self, step: int) -> Consumed:
        return self.consumed.after(step, batch_size=self.batch_size, seq_len=self.corpus.seq_len)

    def batch(self, step: int) -> Batch:
        """The batch of one step, on the device."""
        return self._to_device(self._read(step))

    def from_step(self, step: int, stop: int) -> Iterator[Batch]:
        """Batches step … stop - 1, in order; up to `prefetch` are read ahead, until the iterator is closed."""
        if self.prefetch == 0:
            for number in range(step, stop):
                yield self.batch(number)
            return
        pool = ThreadPoolExecutor(min(self.threads, self.prefetch), thread_name_prefix="pico-loader")
        waiting: deque[Future[Batch]] = deque()
        ahead = iter(range(step, stop))
        try:
            for number in ahead:
                waiting.append(pool.submit(self._read, number))
                if len(waiting) > self.prefetch:
                    break
            while waiting:
                batch = waiting.popleft().result()
                following = next(ahead, None)
                if following is not None:
                    waiting.append(pool.submit(self._read, following))
                yield self._to_device(batch)
        finally:
            for future in waiting:
                future.cancel()
            pool.shutdown(wait=True)

    def _read(self, step: int) -> Batch:
        """Rows of one step in host memory; pinned where they will be copied to a CUDA device."""
        ids = self.row_ids(step)
        local = self.corpus.rows(ids[self._share])
        tensor = torch.from_numpy(local).to(torch.int64)
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return Batch(step, tensor, ids, self.corpus, local, self._consumed_before(step))

    def _to_device(self, batch: Batch) -> Batch:
        """Start the copy to the device; on CUDA it runs while the caller goes on (ordered by the current stream)."""
        if self.device.type == "cpu":
            return batch
        moved = batch.input_ids.to(self.device, non_blocking=True)
        return replace(batch, input_ids=moved)
