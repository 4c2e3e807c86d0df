"""The pages of metrics and components: what each means, its range, its reference, which data it accepts.

The list, the page of one, and the reference document are all made from the specs themselves.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from pico_analyze.components.spec import COMPONENTS, ComponentSpec
from pico_analyze.errors import PluginError
from pico_analyze.metrics.spec import METRICS, MetricSpec
from pico_analyze.output.text import Format, aligned, as_csv, as_json
from pico_analyze.parameters import Param
from pico_analyze.stores.base import ALL_DATA, DATA

_WIDTH = 100


def metrics(name: str | None, form: Format) -> str:
    """All metrics, or the page of one.

    Raises:
        UsageError: no metric has this name; the message names the nearest.
    """
    if name is not None:
        record = metric_record(METRICS.get(name))
        return as_json([record]) if form == "json" else as_csv([record]) if form == "csv" else page(record)
    specs = list(METRICS.each())
    records = [metric_record(spec) for spec in specs if isinstance(spec, MetricSpec)]
    return _listing(records, ("name", "kind", "range", "data"), specs, form)


def components(name: str | None, form: Format) -> str:
    """All components, or the page of one; raises as `metrics` does."""
    if name is not None:
        record = component_record(COMPONENTS.get(name))
        return as_json([record]) if form == "json" else as_csv([record]) if form == "csv" else page(record)
    specs = list(COMPONENTS.each())
    records = [component_record(spec) for spec in specs if isinstance(spec, ComponentSpec)]
    return _listing(records, ("name", "heads", "data"), specs, form)


def _listing(records: list[dict[str, Any]], columns: tuple[str, ...], specs: Iterable[object], form: Format) -> str:
    if form == "json":
        return as_json(records)
    if form == "csv":
        return as_csv(records)
    header = [*columns, "what it is"]
    rows = []
    for record in records:
        short = record | {"data": "all" if set(record["data"]) >= ALL_DATA else record["data"]}
        cells = [textwrap.shorten(cell(short[name]), 28, placeholder=" …") for name in columns]
        rows.append([*cells, _first_sentence(record["definition"])])
    lines = [aligned(header, rows, left=range(len(header)))]
    lines += [f"  (left out: {spec})" for spec in specs if isinstance(spec, PluginError)]
    return "\n".join(lines)


def _first_sentence(text: str) -> str:
    return textwrap.shorten(text.partition(". ")[0].rstrip("."), 60, placeholder=" …")


def cell(value: object) -> str:
    """A value of a record as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def metric_record(spec: MetricSpec) -> dict[str, Any]:
    """Everything about a metric."""
    return {
        "name": spec.name,
        "kind": "comparison" if spec.kind == "pair" else "one matrix",
        "definition": spec.definition,
        "formula": spec.formula,
        "range": spec.range,
        "best": spec.best,
        "cost": spec.cost,
        "reference": spec.reference,
        "data": [data for data in DATA if data in spec.accepts],
        "same_width": spec.same_width,
        "params": param_records(spec.params),
    }


def component_record(spec: ComponentSpec) -> dict[str, Any]:
    """Everything about a component."""
    return {
        "name": spec.name,
        "definition": spec.definition,
        "reference": spec.reference,
        "data": [data for data in DATA if data in spec.accepts],
        "heads": spec.has_heads,
        "params": param_records(spec.params),
    }


def param_records(params: Mapping[str, Param]) -> list[dict[str, Any]]:
    """Everything about some parameters."""
    return [
        {
            "name": name,
            "default": param.default,
            "choices": list(param.choices),
            "low": param.low,
            "high": param.high,
            "help": param.help,
        }
        for name, param in params.items()
    ]


TITLES = {
    "kind": "kind",
    "definition": "definition",
    "range": "range",
    "best": "best value",
    "cost": "cost",
    "reference": "reference",
    "data": "data",
    "heads": "heads",
    "same_width": "same width",
}


def page(record: Mapping[str, Any]) -> str:
    """The page of one metric or component for people."""
    lines = [record["name"]]
    for key, title in TITLES.items():
        value = record.get(key)
        if value not in (None, "", []) and not (key == "same_width" and not value):
            text = "both matrices need the same number of columns" if key == "same_width" else cell(value)
            lines.append(_entry(title, text))
    for param in record["params"]:
        lines.append(_entry(f"param {param['name']}", param_text(param)))
    return "\n".join(lines)


def param_text(param: Mapping[str, Any]) -> str:
    """``linear or rbf, default linear: the kernel``."""
    default = str(param["default"]).lower() if isinstance(param["default"], bool) else param["default"]
    bounds = ""
    if param["choices"]:
        bounds = " or ".join(map(str, param["choices"])) + ", "
    elif param["low"] is not None or param["high"] is not None:
        low, high = param["low"], param["high"]
        bounds = f"{low:g} to {high:g}, " if None not in (low, high) else f"from {low:g}, " if high is None else ""
        bounds = bounds or f"up to {high:g}, "
    return f"{bounds}default {default}: {param['help']}"


def _entry(title: str, text: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent=f"  {title:<17} ", subsequent_indent=" " * 20)
