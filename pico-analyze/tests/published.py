"""The repository of the Hub's tests, and everything that a run holds."""

from __future__ import annotations

import numpy as np

from pico_analyze.stores.base import DATA, Store

REPO = "tester/model"


def read_all(store: Store) -> dict[tuple[object, ...], np.ndarray]:
    found = {}
    for info in store.steps():
        for data in DATA:
            for split in (None,) if data == "weights" else tuple(info.splits):
                for site in info.sites(data, split):
                    found[info.step, split, data, site] = store.read(info.step, split, data, site)
    return found
