"""The commands that make the rows of a page again, and what they stood on."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pico_analyze.components.spec import COMPONENTS
from pico_analyze.errors import PicoAnalyzeError
from pico_analyze.metrics.spec import METRICS
from pico_analyze.output.text import takes_sites
from pico_analyze.table.columns import plain

if TYPE_CHECKING:
    import pandas

_QUESTION = ["component", "data", "split", "metric", "shown_params"]
_MOST_VALUES = 6


@dataclass
class _Asked:
    """A command in the making: metrics that were asked for with the same options."""

    options: list[str]
    metrics: dict[str, None] = field(default_factory=dict)
    of_metrics: dict[str, None] = field(default_factory=dict)
    sites: dict[str, None] = field(default_factory=dict)


def commands(frame: pandas.DataFrame, location: str, analyses: str) -> list[str]:
    """The commands that compute the rows of one run.

    Args:
        frame: Its rows.
        location: Path or address of the run.
        analyses: The folder in which its table lies.

    Returns:
        `compute` for each component, kind of data, split, target and set of parameters; `behave` for the probes.
    """
    out = [] if analyses == "analysis" else ["--out", analyses]
    probes: dict[str, None] = {}
    found: dict[tuple[str, ...], _Asked] = {}
    rows = frame.assign(shown_params=frame["params"].map(_without_target))
    for _, group in rows.groupby(_QUESTION, dropna=False, sort=False):
        first = group.iloc[0]
        if first["component"] == "probe":
            probes[str(first["site"])] = None
            continue
        metric, params = str(first["metric"]), json.loads(first["shown_params"])
        options = _options(group, params)
        asked = found.setdefault(tuple(options), _Asked(options))
        asked.metrics[metric] = None
        asked.of_metrics |= dict.fromkeys(_changed(METRICS, metric, params, f"{metric}."))
        if takes_sites(str(first["component"])):
            asked.sites |= dict.fromkeys(map(str, group["site"]))
    texts = [shlex.join(_command(asked, location, out)) for asked in found.values()]
    if probes:
        named = [word for probe in probes for word in ("--probe", probe)]
        texts.append(shlex.join(["pico-analyze", "behave", location, *named, *out]))
    return texts


def _command(asked: _Asked, location: str, out: list[str]) -> list[str]:
    metric_params = [word for pair in asked.of_metrics for word in ("--metric-param", pair)]
    sites = [word for site in asked.sites for word in ("--site", site)]
    return ["pico-analyze", "compute", *asked.metrics, location, *asked.options, *sites, *metric_params, *out]


def _options(group: pandas.DataFrame, params: Mapping[str, Any]) -> list[str]:
    """The component, the data, and what of a question is no default, but for the metric's own."""
    first = group.iloc[0]
    words = ["--component", str(first["component"])]
    for pair in _changed(COMPONENTS, str(first["component"]), params, ""):
        words += ["--component-param", pair]
    words += ["--data", str(first["data"])]
    split = plain(first["split"])
    words += [] if split in (None, "val") else ["--split", str(split)]
    words += _against(group)
    for name in ("bootstrap", "null", "draws", "seed"):
        if name in params and (name, params[name]) not in (("draws", 100), ("seed", 0)):
            words += [f"--{name}", str(params[name])]
    return words


def _against(group: pandas.DataFrame) -> list[str]:
    """Options of a comparison: what each step is compared with."""
    targets = group["target_step"].dropna()
    if group["target_run"].isna().all() or not len(targets):
        return []
    if group["target_layer"].notna().any():
        return ["--pairs", "layers"]
    own = bool((group["target_run"] == group["run"]).all())
    run = "" if own else str(group["target_run"].iloc[0])
    if bool((group["target_step"] == group["step"]).all()):
        return ["--target", run or "same"]
    if group.groupby(["site", "layer", "head", "step"], dropna=False)["target_step"].nunique().max() > 1:
        return ["--pairs", "steps"]
    if targets.nunique() > 1:
        return ["--target", "prev"]
    step = int(targets.iloc[0])
    word = "last" if own and step == int(group["step"].max()) else str(step)
    return ["--target", word if own else f"{run}@{word}"]


def _changed(registry: Any, name: str, params: Mapping[str, Any], before: str) -> Iterator[str]:
    """``kernel=rbf`` for each parameter that is not the default."""
    with suppress(PicoAnalyzeError):  # a plug-in that is gone
        for key, param in registry.get(name).params.items():
            if key in params and params[key] != param.default:
                value = params[key]
                yield f"{before}{key}={str(value).lower() if isinstance(value, bool) else value}"


def _without_target(text: str) -> str:
    values = json.loads(text)
    values.pop("target_layer", None)
    return json.dumps(values, sort_keys=True)


def report_command(
    sources: Sequence[str | Path], tables: Sequence[str | Path], study: str | None, analyses: Path, out: Path
) -> str:
    """The command that makes a page again."""
    words = ["pico-analyze", "report", *map(str, sources)]
    words += [word for table in tables for word in ("--table", str(table))]
    words += [] if study is None else ["--study", study]
    words += [] if analyses == Path("analysis") else ["--analyses", str(analyses)]
    return shlex.join([*words, "--out", str(out)])


def provenance(frame: pandas.DataFrame) -> list[list[str]]:
    """Versions and identities that rows say they stand on, each once: name and values."""
    found: dict[str, dict[str, None]] = {}
    for text in frame["provenance"].dropna().unique():
        for name, value in json.loads(text).items():
            if isinstance(value, str | int | float) and name not in ("manifest_sha256", "rows_of_probe"):
                found.setdefault(name, {})[str(value)] = None
    return [[name, _few(list(values))] for name, values in found.items()]


def unchecked(frame: pandas.DataFrame) -> int:
    """How many rows stand on bytes that could not be compared with their digest yet."""
    return int(frame["provenance"].str.contains('"unchecked"', regex=False, na=False).sum())


def _few(values: list[str]) -> str:
    more = [f"… {len(values) - _MOST_VALUES} more"] if len(values) > _MOST_VALUES else []
    return ", ".join([*values[:_MOST_VALUES], *more])
