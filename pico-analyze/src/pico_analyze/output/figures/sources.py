"""Where a figure's values come from: tables of analyses, and the runs that they are of.

A source is a table (its folder, or its `rows.parquet`) or a run by any of its names, whose table lies under the
folder of analyses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pico_analyze.errors import NotARunError, UsageError
from pico_analyze.output.figures import style
from pico_analyze.output.figures.losses import Losses
from pico_analyze.output.figures.request import Selected
from pico_analyze.questions.question import Selection
from pico_analyze.stores.base import HasLog, ReadOptions, Store
from pico_analyze.stores.run_names import expanded, open_named
from pico_analyze.stores.sites import MatrixSite
from pico_analyze.table.store import ROWS, location_of, read_frame

if TYPE_CHECKING:
    import numpy as np
    import pandas

_MOST_RIDGES = 16


@dataclass
class Source:
    """One table, one run, or both: what a word of the command line means."""

    word: str
    """As it was given."""
    table: Path | None
    """Folder of its table; None where nothing was computed of the run."""
    location: str | None
    """Path or address of the run; None where the table does not tell."""
    options: ReadOptions
    opened: Store | None = None
    """The run, where it was opened to see what the word means."""

    @cached_property
    def store(self) -> Store:
        """The run.

        Raises:
            UsageError: the table does not say where its run lies.
            NotARunError: it is not there (any more).
        """
        if self.opened is not None:
            return self.opened
        if self.location is None:
            raise UsageError(f"{self.word}: the table does not say of which run it is: name the run")
        return open_named(self.location, self.options)

    def rows(self) -> pandas.DataFrame:
        """All rows of the table.

        Raises:
            UsageError: there is no table: says how one is made.
            DataError: it is damaged.
        """
        if self.table is None:
            raise UsageError(
                f"nothing was computed of {self.word} yet: `pico-analyze compute cka {self.word}` makes a table (or "
                "name the folder of analyses with --analyses)"
            )
        return read_frame(self.table)

    def results(self) -> Mapping[int, Mapping[str, float]]:
        """Results of evaluation by step."""
        return self.store.evaluations()

    def losses(self) -> Losses:
        """Train and validation loss: logged where there is a log, else of checkpoints."""
        store = self.store
        found = store.evaluations()
        train = {step: values["train_loss"] for step, values in found.items() if "train_loss" in values}
        if isinstance(store, HasLog):
            train = {**train, **store.logged_losses()}
        tokens = {info.step: info.tokens_seen for info in store.steps() if info.tokens_seen is not None}
        val = {step: values["val_loss"] for step, values in found.items() if "val_loss" in values}
        return Losses(store.run, train, val, _between(tokens, train))

    def singular_values(self, selected: Selected) -> dict[str, dict[int, np.ndarray]]:
        """Singular values, descending, of each weight matrix that is selected, by step; sixteen steps at most.

        Raises:
            UsageError: no such site, layer or step.
        """
        import numpy as np

        store = self.store
        infos = {info.step: info for info in store.steps() if info.weights}
        if not infos:
            raise UsageError(f"{self.word}: no checkpoint holds weights: nothing to draw spectra of")
        known = sorted(infos)
        steps = Selection(selected.steps).pick(known, what="step", of=f"run {store.run!r}") if selected.steps else known
        steps = [steps[i] for i in style.evenly(len(steps), _MOST_RIDGES)]
        found: dict[str, dict[int, np.ndarray]] = {}
        for name in chosen_matrices(infos[steps[-1]].weights, selected):
            for step in steps:
                matrix = np.asarray(store.read(step, None, "weights", name), dtype=np.float64)
                if matrix.ndim != 2:
                    break  # norms and biases have no spectrum
                values = np.linalg.svd(matrix, compute_uv=False) if np.isfinite(matrix).all() else None
                found.setdefault(name, {})[step] = np.full(min(matrix.shape), math.nan) if values is None else values
        return found


def chosen_matrices(names: Sequence[str], selected: Selected) -> list[str]:
    """Sites of weights that a selection names, by kind (``mlp.up``) or name; by default mlp.down.

    Raises:
        UsageError: no site or layer of that name; says which there are.
    """
    parsed = [(name, site.layer, site.kind) for name, site in ((name, MatrixSite.parse(name)) for name in names)]
    kinds = list(dict.fromkeys(kind for _, _, kind in parsed))
    wanted = list(selected.site) or [kind for kind in ("mlp.down",) if kind in kinds] or kinds[:1]
    for word in wanted:
        if word not in kinds and word not in names:
            raise UsageError(f"no weight has the site {word!r} (there are: {', '.join(kinds)})")
    found = [(name, layer) for name, layer, kind in parsed if kind in wanted or name in wanted]
    if selected.layers is not None:
        layers = sorted({layer for _, layer in found if layer is not None})
        picked = Selection(selected.layers).pick(layers, what="layer", of="the run")
        found = [(name, layer) for name, layer in found if layer in picked]
    return [name for name, _ in found]


def _between(tokens: Mapping[int, int], steps: Mapping[int, float]) -> dict[int, int]:
    """Tokens at logged steps between checkpoints, by their share of the way: a step takes the same number each."""
    import numpy as np

    known = sorted(tokens)
    if len(known) < 2:
        return dict(tokens)
    inside = [step for step in steps if known[0] <= step <= known[-1]]
    found = np.interp(inside, known, [tokens[step] for step in known])
    return {**{step: round(float(at)) for step, at in zip(inside, found, strict=True)}, **tokens}


def sources(words: Sequence[str | Path], analyses: Path, options: ReadOptions) -> list[Source]:
    """What words mean; none: the run under ./runs that changed last.

    Raises:
        NotARunError: a word is neither a table nor a run.
    """
    from pico_analyze.stores.opening import newest_run

    return [_source(str(word), analyses, options) for word in expanded(words or [newest_run()])]


def _source(word: str, analyses: Path, options: ReadOptions) -> Source:
    path = Path(word)
    if path.name == ROWS and path.is_file():
        path = path.parent
    if (path / ROWS).is_file():
        return Source(word, path, location_of(path), options)
    try:
        store = open_named(word, options)
    except NotARunError:
        if (analyses / word / ROWS).is_file():
            return Source(word, analyses / word, location_of(analyses / word), options)
        raise
    return Source(word, _table_of(store, analyses), word, options, store)


def _table_of(store: Store, analyses: Path) -> Path | None:
    """The table under `analyses` that is of this run: that of its name, or another that says that it is of it."""
    wanted = {store.location, str(Path(store.location).resolve())} if "://" not in store.location else {store.location}
    places = [analyses / store.run, *sorted(analyses.glob(f"{store.run}-*"))]
    for place in places:
        location = location_of(place) if (place / ROWS).is_file() else None
        if location is not None and (location in wanted or str(Path(location).resolve()) in wanted):
            return place
    return None
