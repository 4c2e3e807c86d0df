"""How a kind of run describes itself: which places hold one, how it is opened, and what threads may do with it.

A `StoreSpec` is data around a few functions. `opening.py` asks one after the other what a place is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pico_analyze.registry import Registry
from pico_analyze.stores.base import ReadOptions, Store


def never_listed(_path: Path) -> float | None:
    """For kinds of runs that are opened only when they are named."""
    return None


def no_checkpoint(_path: Path) -> tuple[Path, int] | None:
    """For kinds of runs whose checkpoints are no directories."""
    return None


@dataclass(frozen=True)
class StoreSpec:
    """One kind of run: the places that hold one, and how it is opened.

    The module of a spec imports little: all of them are loaded to find out what a place is, and what reading takes is
    imported by the `open` of the one that recognised it.
    """

    name: str
    """What a store of this kind calls its `kind`."""
    title: str
    """What such a run is announced as: ``a run of Pico``."""
    sign: str
    """What it is recognised by, for the message about a place that is no run: ``run.json (Pico)``."""
    recognises: Callable[[str], bool]
    """Whether there is such a run at a path (or, if `remote`, an address), found out without reading much of it. Raises
    DataError for one that cannot be used as it is."""
    open: Callable[[str, ReadOptions], Store]
    """The run at a place that was recognised; raises what the `Store` itself does."""
    remote: bool = False
    """Whether it is asked about addresses (texts with ``://``); if not, about paths that exist."""
    thread_safe: bool = False
    """Whether several threads may read one store at once; if not, they ask it in turn."""
    order: int = 50
    """Of kinds that recognise the same place, the one of the lowest order has it (of equal ones, the first by name).
    Pico's own come first, at 0 to 20; any model directory that transformers could load, at 90."""
    changed: Callable[[Path], float | None] = never_listed
    """When a run in a directory last changed, as a time stamp; None if the directory is none. Runs that it tells of are
    listed without being named, and the newest of them is the default."""
    checkpoint: Callable[[Path], tuple[Path, int] | None] = no_checkpoint
    """The run's directory and the step, if a directory is that of one checkpoint of a run of this kind: it may be named
    in place of ``RUN@STEP``."""
    install: str | None = None
    """What to run when a package that `open` imports is missing: ``pip install 'pico-analyze[torch]'``."""


STORES = Registry("pico_analyze.stores", StoreSpec)
"""All kinds of runs: the built-in ones and those of plug-ins."""
