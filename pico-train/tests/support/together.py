"""Collectives among threads that stand for processes: what each gives, everybody gets."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, TypeVar

import torch

T = TypeVar("T")


class Together:
    """So many processes, in one. As among real ones, a collective is one only if everybody calls it."""

    def __init__(self, world_size: int) -> None:
        self.barrier = threading.Barrier(world_size, timeout=10)
        self.given: list[Any] = [None] * world_size
        self.asked: list[str] = []
        """The collectives that rank 0 took part in."""

    def run(self, one: Callable[[Any], T]) -> list[T]:
        """What `one` returns on each process, given its engine."""
        engines = [self._engine(rank) for rank in range(len(self.given))]

        def on(engine: Any) -> T:
            try:
                return one(engine)
            except BaseException:
                self.barrier.abort()
                raise

        with ThreadPoolExecutor(len(engines)) as pool:
            return list(pool.map(on, engines))

    def _engine(self, rank: int) -> Any:
        return SimpleNamespace(
            fabric=SimpleNamespace(all_gather=lambda tensor: torch.stack(self._alike(rank, "all_gather", tensor))),
            sum_over_ranks=lambda tensor: torch.stack(self._alike(rank, "sum", tensor)).sum(0),
            gather=lambda item: self._everyones(rank, "gather", item),
            world_size=len(self.given),
            rank=rank,
            is_rank_zero=rank == 0,
            device=torch.device("cpu"),
        )

    def _alike(self, rank: int, name: str, tensor: torch.Tensor) -> list[torch.Tensor]:
        everyone = self._everyones(rank, name, tensor.clone())
        assert {(each.dtype, each.shape) for each in everyone} == {(tensor.dtype, tensor.shape)}
        return everyone

    def _everyones(self, rank: int, name: str, item: T) -> list[T]:
        if rank == 0:
            self.asked.append(name)
        self.given[rank] = (name, item)
        self.barrier.wait()
        everyone = list(self.given)
        self.barrier.wait()
        assert {called for called, _ in everyone} == {name}
        return [each for _, each in everyone]
