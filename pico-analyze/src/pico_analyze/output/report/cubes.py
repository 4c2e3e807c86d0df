"""Rows of a table as arrays over their places: a cube for each question, its axes run, split, site, layer, head, step.

A cell without a row is NaN and has no reason; one whose value is undefined is NaN and has one. What a metric warned of
is kept (`table`), and drawn is the value of its companion, as in figures.

Letters: R runs, P splits, S sites, L layers, H heads, T steps, G targets.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pico_analyze.errors import PicoAnalyzeError
from pico_analyze.metrics.spec import METRICS
from pico_analyze.output.figures.selection import debiased
from pico_analyze.output.figures.series import computed_order
from pico_analyze.output.report.packing import packed
from pico_analyze.output.text import params_text, takes_sites, without_target_layer
from pico_analyze.probes.spec import PROBES
from pico_analyze.table.columns import plain

if TYPE_CHECKING:
    import pandas

AXES = ("run", "split", "site", "layer", "head", "step", "target")
"""Axes of a cube, slowest first. `target` is there for comparisons of all pairs alone: step or layer compared with."""
MOST_CELLS = 4_000_000
"""Most cells of a cube: what is larger is named on the page and not drawn there."""
_QUESTION = ["metric", "shown_params", "component", "data", "other", "between"]
_COLUMNS = {"low": "ci_low", "high": "ci_high", "chance": "null_mean"}


@dataclass(frozen=True)
class Cube:
    """The values of one question."""

    metric: str
    component: str
    data: str
    params: str
    """Parameters that are not defaults, as text; empty for none."""
    axes: dict[str, list[Any]]
    """Names or numbers along each of `AXES`; None is the whole of the layers, of the heads, of the splits."""
    arrays: dict[str, np.ndarray]
    """`value` (R, P, S, L, H, T, G), as drawn; those of `table`, `low`, `high`, `chance` that there are; float32."""
    reasons: list[str]
    """Why values are undefined."""
    codes: np.ndarray | None
    """uint8, of the same shape: the number of the reason, from 1; 0 for none. None where every value is defined."""
    target: str = ""
    """What is compared with, in words; empty for no comparison."""
    pairs: str = ""
    """steps or layers, where all pairs are compared."""
    instead: dict[str, str] = field(default_factory=dict)
    """Site → name of the companion that is drawn in place of the table's value."""
    about: dict[str, Any] = field(default_factory=dict)
    """What the metric's page says: definition, range, best, bounds, axis."""
    refused: str = ""
    """Why there are no arrays."""

    def packed(self) -> dict[str, Any]:
        """The same as a part of a document."""
        kept = {name: value for name, value in vars(self).items() if name not in ("arrays", "codes")}
        arrays = {name: packed(array) for name, array in self.arrays.items()}
        return kept | {"arrays": arrays, "codes": None if self.codes is None else packed(self.codes)}


def cubes(*frames: pandas.DataFrame) -> list[Cube]:
    """The cubes of a table in its order, sites first, circuits and other components next, what models do last.

    Args:
        *frames: Tidy rows, of one run each or of several.

    Returns:
        One for each question: metric, parameters, component, kind of data, and run compared with if that is another.
    """
    import pandas as pd

    held = [frame for frame in frames if len(frame)]
    if not held:
        return []
    rows = pd.concat(held, ignore_index=True)
    mapped = {text: without_target_layer(text) for text in rows["params"].unique()}
    own = (rows["target_run"] == rows["run"]).fillna(False)
    rows = rows.assign(
        shown_params=rows["params"].map(mapped),
        between=rows["target_layer"].notna(),
        other=rows["target_run"].where(~own.astype(bool), None),
        table=rows["value"],
    )
    rows = debiased(rows)
    found = [_cube(group) for _, group in rows.groupby(_QUESTION, dropna=False, sort=False)]
    return sorted(found, key=lambda cube: (cube.data == "behaviour", not takes_sites(cube.component)))


def _cube(rows: pandas.DataFrame) -> Cube:
    first = rows.iloc[0]
    target_column = _target_column(rows)
    columns = {name: target_column if name == "target" else name for name in AXES}
    axes = {name: [None] if column is None else _along(rows, name, column) for name, column in columns.items()}
    shape = tuple(len(axis) for axis in axes.values())
    common: dict[str, Any] = {
        "metric": str(first["metric"]),
        "component": str(first["component"]),
        "data": str(first["data"]),
        "params": params_text(first).strip(" []"),
        "axes": axes,
        "target": _target(rows, target_column),
        "pairs": {None: "", "target_step": "steps", "target_layer": "layers"}[target_column],
        "about": about(str(first["metric"]), [str(site) for site in axes["site"]]),
    }
    cells = math.prod(shape)
    if cells > MOST_CELLS:
        refused = f"{cells:,} places are too many for a page: `pico-analyze plot` draws them"
        return Cube(**common, arrays={}, reasons=[], codes=None, refused=refused)
    at = np.ravel_multi_index(
        [
            np.zeros(len(rows), np.int64) if column is None else _places(rows[column], axes[name])
            for name, column in columns.items()
        ],
        shape,
    )
    arrays = {"value": _filled(rows["value"], at, shape)}
    for name, column in _COLUMNS.items():
        if rows[column].notna().any():
            arrays[name] = _filled(rows[column], at, shape)
    instead = rows.loc[rows["instead"].notna(), ["site", "instead"]].drop_duplicates()
    if len(instead):
        arrays["table"] = _filled(rows["table"], at, shape)
    reasons, codes = _reasons(rows, at, shape)
    named = {str(site): str(name) for site, name in instead.itertuples(index=False)}
    return Cube(**common, arrays=arrays, reasons=reasons, codes=codes, instead=named)


def _filled(values: Any, at: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    found = np.full(math.prod(shape), np.nan, np.float32)
    with np.errstate(over="ignore"):  # what is beyond float32 is drawn as what is infinite
        found[at] = values.to_numpy(dtype=np.float64, na_value=np.nan)
    return found.reshape(shape)


def _reasons(rows: pandas.DataFrame, at: np.ndarray, shape: tuple[int, ...]) -> tuple[list[str], np.ndarray | None]:
    """The reasons, and which cell has which; those beyond the 254th share one."""
    undefined = rows["value"].isna() | np.isinf(rows["value"].to_numpy(np.float64))
    if not undefined.any():
        return [], None
    lost = rows.loc[undefined, ["reason", "value"]]
    said = [plain(text) or _unsaid(value) for text, value in lost.itertuples(index=False)]
    reasons = list(dict.fromkeys(said))
    if len(reasons) > 254:
        reasons = [*reasons[:253], "another reason: the table has it"]
    number = {text: min(i, 253) + 1 for i, text in enumerate(dict.fromkeys(said))}
    codes = np.zeros(math.prod(shape), np.uint8)
    codes[at[undefined.to_numpy()]] = [number[text] for text in said]
    return reasons, codes.reshape(shape)


def _unsaid(value: float) -> str:
    return "it is infinite" if math.isinf(value) else "no reason is given"


def _target_column(rows: pandas.DataFrame) -> str | None:
    """What has to be told apart beside the places: the layer compared with, or the step where a place has several."""
    if bool(rows["between"].iloc[0]):
        return "target_layer"
    return "target_step" if rows.duplicated([name for name in AXES if name != "target"]).any() else None


def _target(rows: pandas.DataFrame, column: str | None) -> str:
    if rows["target_run"].isna().all():
        return ""
    other = plain(rows["other"].iloc[0])
    of = f"run {other}, " if other is not None else ""
    if column == "target_layer":
        return of + "every layer with every layer"
    if column == "target_step":
        return of + "several steps"
    steps = [int(step) for step in rows["target_step"].dropna().unique()]
    if bool((rows["target_step"] == rows["step"]).all()):
        return of + "the same step"
    if len(steps) == 1:
        return f"{of}step {steps[0]:,}"
    each = rows.groupby("run", sort=False)["target_step"].unique()
    if all(len(one) == 1 for one in each) and other is None:
        return "each run's step " + ", ".join(f"{int(one[0]):,}" for one in each)
    return of + "another step each"


def _along(rows: pandas.DataFrame, name: str, column: str) -> list[Any]:
    """The places along an axis in their order: numbers by size with the whole first, sites as they are computed."""
    known = [plain(value) for value in rows[column].unique()]
    if name == "site":
        return computed_order(str(value) for value in known)
    if name in ("run", "split"):
        return known
    numbers: list[Any] = sorted(int(value) for value in known if value is not None)
    return [None, *numbers] if None in known else numbers


def _places(column: pandas.Series[Any], axis: list[Any]) -> np.ndarray:
    number = {value: i for i, value in enumerate(axis)}
    found = {value: number[plain(value)] for value in column.unique() if plain(value) is not None}
    return column.map(found).astype("float64").fillna(number.get(None, 0)).to_numpy(np.int64)


def about(metric: str, sites: Iterable[str] = ()) -> dict[str, Any]:
    """What is known of a metric, or of what a probe measures; empty for one that is not installed."""
    with suppress(PicoAnalyzeError):
        spec = METRICS.get(metric)
        return {
            "definition": spec.definition,
            "range": spec.range,
            "best": spec.best,
            "reference": spec.reference,
            "bounds": None if spec.bounds is None else list(spec.bounds),
            "axis": spec.axis,
        }
    for probe in (PROBES[site] for site in sites if site in PROBES):
        for measured in probe.metrics:
            if measured.name == metric:
                return {"definition": measured.definition, "range": measured.range, "reference": probe.reference}
    return {}
