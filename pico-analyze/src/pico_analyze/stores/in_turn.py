"""A run that several threads may ask, one at a time, whatever kind it is."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import TYPE_CHECKING

from pico_analyze.stores.base import NamesInputs

if TYPE_CHECKING:
    import numpy as np
    import pandas

    from pico_analyze.stores.base import Data, Input, StepInfo, Store, Unusable
    from pico_schema import ModelSpec


class InTurn:
    """The same run, each question answered before the next is asked; computing goes on meanwhile."""

    def __init__(self, store: Store) -> None:
        self._store, self._lock = store, Lock()
        self.kind, self.run, self.location = store.kind, store.run, store.location

    def steps(self) -> tuple[StepInfo, ...]:
        """See `Store.steps`."""
        with self._lock:
            return self._store.steps()

    def unusable(self) -> tuple[Unusable, ...]:
        """See `Store.unusable`."""
        with self._lock:
            return self._store.unusable()

    def spec(self, step: int) -> ModelSpec:
        """See `Store.spec`."""
        with self._lock:
            return self._store.spec(step)

    def read(self, step: int, split: str | None, data: Data, site: str) -> np.ndarray:
        """See `Store.read`."""
        with self._lock:
            return self._store.read(step, split, data, site)

    def inputs(self, step: int, split: str | None, data: Data, site: str) -> tuple[Input, ...] | None:
        """See `NamesInputs.inputs`; None of a run that does not say."""
        if not isinstance(self._store, NamesInputs):
            return None
        with self._lock:
            return self._store.inputs(step, split, data, site)

    def evaluations(self) -> Mapping[int, Mapping[str, float]]:
        """See `Store.evaluations`."""
        with self._lock:
            return self._store.evaluations()

    def provenance(self, step: int) -> Mapping[str, str]:
        """See `Store.provenance`."""
        with self._lock:
            return self._store.provenance(step)

    def samples(self, step: int, split: str) -> pandas.DataFrame:
        """See `Store.samples`."""
        with self._lock:
            return self._store.samples(step, split)
