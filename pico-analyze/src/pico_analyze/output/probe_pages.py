"""The pages of probes: what each measures, with formula, range and reference. Made from the specs themselves."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from pico_analyze.output.metric_pages import param_records, param_text
from pico_analyze.output.text import Format, aligned, as_csv, as_json
from pico_analyze.probes.spec import PROBES, ProbeSpec, probe

_WIDTH = 100


def probes(name: str | None, form: Format) -> str:
    """All probes, or the page of one.

    Raises:
        UsageError: no probe has this name; the message names the nearest.
    """
    records = [record(spec) for spec in ([probe(name)] if name is not None else PROBES.values())]
    if form == "json":
        return as_json(records)
    if form == "csv":
        return as_csv(records)
    if name is not None:
        return page(records[0])
    rows = [[one["name"], ", ".join(metric["name"] for metric in one["metrics"])] for one in records]
    return aligned(["name", "metrics"], rows, left=(0, 1))


def record(spec: ProbeSpec) -> dict[str, Any]:
    """Everything about a probe."""
    return {
        "name": spec.name,
        "definition": spec.definition,
        "metrics": [
            {
                "name": one.name,
                "definition": one.definition,
                "formula": one.formula,
                "range": one.range,
                "rows": one.place,
            }
            for one in spec.metrics
        ],
        "needs": spec.needs,
        "cost": spec.cost,
        "reference": spec.reference,
        "arrays": spec.arrays,
        "params": param_records(spec.params),
    }


def page(one: Mapping[str, Any]) -> str:
    """The page of a probe for people."""
    lines = [one["name"], _entry("definition", one["definition"])]
    for metric in one["metrics"]:
        text = f"{metric['definition']} Range: {metric['range']}. A row for each {metric['rows']}."
        lines.append(_entry(metric["name"], text))
    lines += [_entry(param["name"], param_text(param)) for param in one["params"]]
    lines += [_entry(key, one[key]) for key in ("needs", "cost", "arrays", "reference") if one[key]]
    return "\n".join(lines)


def _entry(title: str, text: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent=f"  {title:<19} ", subsequent_indent=" " * 22)
