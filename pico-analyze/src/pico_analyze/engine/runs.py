"""The runs of an analysis: each opened once, and what tells runs of one name apart."""

from __future__ import annotations

from pathlib import Path

from pico_analyze.engine.settings import Listener
from pico_analyze.stores.base import Store
from pico_analyze.stores.opening import ReadOptions, open_store


class OpenedRuns:
    """The runs of an analysis, each opened once."""

    def __init__(self, options: ReadOptions, listener: Listener) -> None:
        self._options, self._listener = options, listener
        self._opened: dict[str, Store] = {}

    def __call__(self, location: str | Path) -> Store:
        """The run at a path or address."""
        text = str(location)
        if text not in self._opened:
            store = open_store(text, self._options)
            twin = next((known for known in self._opened.values() if known.location == store.location), None)
            self._opened[text] = twin or store
            if twin is None:
                self._listener.opened(store)
                if found := store.unusable():
                    self._listener.unusable(store, found)
        return self._opened[text]


def identity(store: Store) -> str:
    """What tells two runs of the same name apart: the run's id, or where it lies."""
    steps = store.steps()
    facts = store.provenance(steps[-1].step) if steps else {}
    return facts.get("run_id") or place(store)


def place(store: Store) -> str:
    """Where a run lies: an address, or an absolute path."""
    return store.location if "://" in store.location else str(Path(store.location).resolve())
