"""Lines of values: which rows are one line, which lines share a colour and a panel, what is averaged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pico_analyze.errors import UsageError
from pico_analyze.output.figures.request import DIMENSIONS, Request
from pico_analyze.output.text import wholes_or_heads
from pico_analyze.table.columns import plain
from pico_analyze.table.coordinates import axes_of
from pico_schema.sites import KINDS

if TYPE_CHECKING:
    import pandas

VALUES = ["panel", "colour", "line", "x", "value", "low", "high", "band", "chance", "at_target"]
"""Columns of `series`: panel, colour and line by name, the point, its band, what chance gives, whether it is the
target itself."""


def dimensions(rows: pandas.DataFrame, request: Request) -> tuple[str | None, str | None]:
    """What colours and panels tell apart: as asked for, else layers by colour (runs, heads or sites where no layers
    differ) and sites by panel."""
    several = {name for name in DIMENSIONS if rows[name].nunique(dropna=False) > 1}
    free = [name for name in ("layer", "run", "head", "site", "split", "metric") if name in several]
    hue = request.hue
    taken = {request.facet, request.over, "site"}
    taken |= {"run"} if taken & {*axes_of(rows)} else set()  # an axis tells runs apart, or is averaged over
    if hue is None:
        hue = next((name for name in free if name not in taken), None)
    facet = request.facet
    if facet is None:
        taken = {hue, request.over} | ({"run"} if {hue, request.over} & {*axes_of(rows)} else set())
        facet = next((name for name in ("site", "layer", "run") if name in several - taken), None)
    if request.hue is None and hue is None and facet is None and "site" in several:
        hue = "site"
    return hue, facet


def shown(rows: pandas.DataFrame, request: Request) -> pandas.DataFrame:
    """Heads, where they are asked for; else the whole of each layer, and heads where it has no whole."""
    if "head" not in (request.hue, request.facet, request.over):
        return wholes_or_heads(rows)
    heads = rows[rows["head"].notna()]
    if heads.empty:
        raise UsageError("no row is of a head: measure a circuit, such as --component ov_circuit, or leave head out")
    return heads


def series(rows: pandas.DataFrame, request: Request) -> pandas.DataFrame:
    """The points of every line, in the order in which they are drawn.

    Args:
        rows: Of one question, as `selection.choose` gives them.
        request: The figure.

    Returns:
        `VALUES`; `band` says what `low` and `high` are: "interval" (95 %), "deviation" (mean ± one standard deviation
        over `request.over`), or missing.

    Raises:
        UsageError: tokens are not known; a step is compared with several others; nothing is averaged over.
    """
    import pandas as pd

    rows = shown(rows, request)
    hue, facet = dimensions(rows, request)
    x = "step" if request.x == "step" else "tokens_seen"
    if rows[x].isna().any():
        runs = ", ".join(sorted({str(run) for run in rows.loc[rows[x].isna(), "run"]}))
        raise UsageError(f"the tokens seen are not known at each step of {runs}: draw it over steps (--x step)")
    keep: list[str] = [name for name in DIMENSIONS if name != request.over]
    if request.over is not None:
        axes = axes_of(rows)
        if request.over in axes:  # over all runs that differ in this axis alone
            keep = [name for name in keep if name != "run"] + [name for name in axes if name != request.over]
        elif request.over == "run":  # over all runs that what is told apart leaves together
            keep += [name for name in axes if name in (request.hue, request.facet)]
        return _averaged(rows, request, hue, facet, keep, x)
    if rows.duplicated([*keep, "step"]).any():
        raise UsageError("each step is compared with several: choose one with --target, or draw --kind steps")
    at_target = (rows["step"] == rows["target_step"]).fillna(False) & (rows["run"] == rows["target_run"]).fillna(False)
    found = pd.DataFrame(
        {
            "panel": _names(rows, facet),
            "colour": _names(rows, hue),
            "line": _lines(rows, keep),
            "x": rows[x].astype(float),
            "value": rows["value"].astype(float),
            "low": rows["ci_low"].astype(float),
            "high": rows["ci_high"].astype(float),
            "band": rows["ci_low"].notna().map({True: "interval", False: None}),
            "chance": rows["null_mean"].astype(float),
            "at_target": at_target.astype(bool),
        }
    )
    return _in_order(found, rows, hue, facet)


def _averaged(
    rows: pandas.DataFrame, request: Request, hue: str | None, facet: str | None, keep: list[str], x: str
) -> pandas.DataFrame:
    import pandas as pd

    if rows[str(request.over)].nunique() < 2:
        raise UsageError(f"there is only one {request.over}: nothing to average over")
    groups = rows.groupby([*keep, x], dropna=False, sort=False)
    value = groups["value"]
    mean = pd.DataFrame({"mean": value.mean(), "deviation": value.std(), "at": groups.head(1).index})
    first = rows.loc[mean["at"]]
    found = pd.DataFrame(
        {
            "panel": _names(first, facet),
            "colour": _names(first, hue),
            "line": _lines(first, keep),
            "x": first[x].astype(float),
            "value": mean["mean"].to_numpy(),
            "low": (mean["mean"] - mean["deviation"]).to_numpy(),
            "high": (mean["mean"] + mean["deviation"]).to_numpy(),
            "band": "deviation",
            "chance": float("nan"),
            "at_target": False,
        }
    )
    return _in_order(found, first, hue, facet)


def _names(rows: pandas.DataFrame, dimension: str | None) -> pandas.Series[str]:
    """``layer 3``, ``head 0``, or the name by itself; empty where nothing is told apart."""
    if dimension is None:
        return rows["metric"].map(lambda _: "")
    return rows[dimension].map(lambda value: _name(dimension, value))


def _name(dimension: str, value: object) -> str:
    value = plain(value)
    if value is None and dimension not in DIMENSIONS:
        return f"no {dimension}"
    if value is None:
        return "whole" if dimension == "head" else "model" if dimension == "layer" else "rows"
    return f"{dimension} {value}" if dimension in ("layer", "head") or not isinstance(value, str) else value


def _lines(rows: pandas.DataFrame, keep: list[str]) -> pandas.Series[str]:
    several = [name for name in keep if rows[name].nunique(dropna=False) > 1]
    texts = [rows[name].map(lambda value, name=name: _name(name, value)) for name in several]
    if not texts:
        return rows["metric"].map(lambda _: "")
    import pandas as pd

    return pd.Series([", ".join(words) for words in zip(*texts, strict=True)], index=rows.index, dtype=object)


def computed_order(sites: Iterable[str]) -> list[str]:
    """Kinds of sites in the order of computation, each once; others after them, in the order of the table."""
    known = list(dict.fromkeys(sites))
    places = {kind: at for at, kind in enumerate(KINDS)}
    return sorted(known, key=lambda kind: places.get(kind, len(places)))


def _in_order(found: pandas.DataFrame, rows: pandas.DataFrame, hue: str | None, facet: str | None) -> pandas.DataFrame:
    """Panels, colours and lines in the order of the table, numbers by size; each line by x."""
    import pandas as pd

    keys = pd.DataFrame(index=found.index)
    for name, dimension in (("panel", facet), ("colour", hue)):
        if dimension in ("layer", "head"):
            keys[name] = rows[dimension].fillna(-1).astype(int)
        elif dimension == "site":
            keys[name] = rows["site"].map({site: at for at, site in enumerate(computed_order(rows["site"]))})
        else:
            seen = {value: at for at, value in enumerate(dict.fromkeys(found[name]))}
            keys[name] = found[name].map(seen)
    seen = {value: at for at, value in enumerate(dict.fromkeys(found["line"]))}
    keys["line"], keys["x"] = found["line"].map(seen), found["x"]
    order = keys.sort_values(["panel", "colour", "line", "x"], kind="stable").index
    sorted_points: pandas.DataFrame = found.loc[order].reset_index(drop=True)[VALUES]
    return sorted_points
