"""Studies of pico-analyze 1.0: recognised by their keys and translated; every translation is told.

Nothing is dropped silently: what has no counterpart is told too, and a key that 1.0 did not have is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pico_analyze.errors import UsageError, nearest
from pico_analyze.stores.transformers.architectures import PICO
from pico_schema.sites import Site

_TOP = ("analysis_name", "metrics", "steps", "monitoring")
_METRIC = ("metric_name", "components", "data_split", "target_checkpoint", "norm_type")
_COMPONENT = ("component_name", "layer_suffixes", "layers", "data_type")
_MONITORING = ("output_dir", "save_to_wandb", "wandb", "save_to_picolabs", "pico_report")
_NORMS = {"frobenius": "frobenius", "nuclear": "nuclear", "spectral": "spectral", "max": "max_abs", "inf": "max_abs"}
_AS_IT_WAS: dict[str, dict[str, Any]] = {
    "gini": {"corrected": False},
    "condition_number": {"over": "all", "centre": "no"},
    "per": {"centre": "no"},
    "pwcca": {"variant": "pico1"},
}
"""Parameters with which a metric of today is the one that 1.0 had."""


def is_v1(raw: Mapping[str, Any]) -> bool:
    """Whether a study is written as 1.0 had it."""
    metrics = raw.get("metrics")
    named = isinstance(metrics, list) and any(isinstance(item, dict) and "metric_name" in item for item in metrics)
    return "measurements" not in raw and ("analysis_name" in raw or named)


def translate(raw: Mapping[str, Any], *, where: str) -> tuple[dict[str, Any], list[str]]:
    """A study of 1.0 as one of today, and one line per translation.

    Raises:
        UsageError: a key that 1.0 did not have, or a value that means nothing.
    """
    notes = [f"{where}: a study of pico-analyze 1.0; it is read as follows"]
    _known(raw, _TOP, where)
    study: dict[str, Any] = {"measurements": []}
    if raw.get("analysis_name"):
        study["name"] = _text(raw, "analysis_name", where)
        notes.append("  analysis_name → name")
    if "steps" in raw:
        study["steps"] = _steps(raw["steps"], where, notes)
    _monitoring(raw.get("monitoring") or {}, where, study, notes)
    told: dict[str, None] = {}
    for number, metric in enumerate(_list(raw.get("metrics"), f"{where}: metrics")):
        place = f"{where}: metrics.{number}"
        _known(metric, _METRIC, place)
        study["measurements"] += _measurements(metric, place, told)
    return study, [*notes, *told]


def _known(mapping: object, known: Iterable[str], where: str) -> None:
    if not isinstance(mapping, Mapping):
        raise UsageError(f"{where}: a mapping was expected, found {type(mapping).__name__}")
    for key in mapping:
        if key not in known:
            raise UsageError(f"{where}: unknown key {key}{nearest(str(key), known)} (1.0 had: {', '.join(known)})")


def _text(mapping: Mapping[str, Any], key: str, where: str) -> str:
    value = mapping[key]
    if not isinstance(value, str):
        raise UsageError(f"{where}: {key}={value!r}: text was expected: quote it")
    return value


def _flag(mapping: Mapping[str, Any], key: str, where: str) -> bool:
    value = mapping.get(key)
    if value is not None and not isinstance(value, bool):
        raise UsageError(f"{where}: monitoring.{key}={value!r}: true or false was expected")
    return bool(value)


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise UsageError(f"{where}: a list was expected, found {type(value).__name__}")
    return value


def _steps(steps: object, where: str, notes: list[str]) -> str | list[int]:
    """A list of steps, or ``{start, end, step}``, whose end is included."""
    if isinstance(steps, Mapping):
        _known(steps, ("start", "end", "step"), f"{where}: steps")
        numbers = [steps.get(key) for key in ("start", "end", "step")]
        if not all(isinstance(number, int) and not isinstance(number, bool) for number in numbers):
            raise UsageError(f"{where}: steps needs whole numbers start, end and step")
        start, end, stride = numbers
        text = f"{start}-{end}:{stride}"
        notes.append(
            f"  steps {{start: {start}, end: {end}, step: {stride}}} → steps {text} (those of them that exist)"
        )
        return text
    return _list(steps, f"{where}: steps")


def _monitoring(given: Any, where: str, study: dict[str, Any], notes: list[str]) -> None:
    _known(given, _MONITORING, f"{where}: monitoring")
    if given.get("output_dir"):
        study["out"] = _text(given, "output_dir", f"{where}: monitoring")
        notes.append(f"  monitoring.output_dir → out {study['out']}")
    wandb = given.get("wandb") or {}
    if not isinstance(wandb, Mapping):
        raise UsageError(f"{where}: monitoring.wandb: a mapping was expected, found {type(wandb).__name__}")
    if _flag(given, "save_to_wandb", where):
        project = wandb.get("project") or "pico"
        notes.append(
            f"  monitoring.save_to_wandb → nothing is sent by itself: add --wandb online --wandb-project {project}"
        )
    if _flag(given, "save_to_picolabs", where):
        notes.append("  monitoring.save_to_picolabs → no counterpart: nothing is sent")


def _measurements(metric: Mapping[str, Any], where: str, told: dict[str, None]) -> list[dict[str, Any]]:
    name = metric.get("metric_name")
    if not isinstance(name, str):
        raise UsageError(f"{where}: the key metric_name is missing")
    use: dict[str, Any] = {"name": name}
    if name in _AS_IT_WAS:
        use["params"] = _AS_IT_WAS[name]
        params = ", ".join(f"{key}={str(value).lower()}" for key, value in _AS_IT_WAS[name].items())
        told[f"  {name} → {name}, params {params} (as 1.0 had it)"] = None
    if metric.get("norm_type") is not None:
        kind = _NORMS.get(str(metric["norm_type"]).lower())
        if kind is None:
            raise UsageError(f"{where}: norm_type {metric['norm_type']!r} is not one of {', '.join(_NORMS)}")
        use["params"] = {"kind": kind}
        told[f"  norm_type {metric['norm_type']} → norm, params kind={kind}"] = None
    common: dict[str, Any] = {"metrics": [use]}
    if metric.get("data_split") is not None:
        common["splits"] = [metric["data_split"]]
        told["  data_split → splits"] = None
    if metric.get("target_checkpoint") is not None:
        common["target"] = metric["target_checkpoint"]
        told[f"  target_checkpoint {metric['target_checkpoint']} → target {metric['target_checkpoint']}"] = None
    found = []
    for number, component in enumerate(_list(metric.get("components"), f"{where}.components")):
        found.append(common | _component(component, f"{where}.components.{number}", told))
    return found


def _component(component: Any, where: str, told: dict[str, None]) -> dict[str, Any]:
    _known(component, _COMPONENT, where)
    name, data, suffixes = (component.get(key) for key in ("component_name", "data_type", "layer_suffixes"))
    if not isinstance(name, str) or not isinstance(data, str):
        raise UsageError(f"{where}: the keys component_name and data_type are needed")
    translated: dict[str, Any] = {"components": [{"name": name}], "data": [data]}
    if component.get("layers") is not None:
        translated["layers"] = component["layers"]
    if name == "ov_circuit":
        _check_circuit(suffixes, where, told)
        if data != "activations":
            translated["components"] = [{"name": name, "params": {"form": "head"}}]
            told[f"  ov_circuit, {data} → ov_circuit, params form=head (W_V·W_O, as 1.0 had it)"] = None
    elif suffixes is not None:
        site = _kind(suffixes, where)
        translated["sites"] = [site]
        told[f"  layer_suffixes {suffixes} → sites {site}"] = None
    return translated


def _check_circuit(suffixes: Any, where: str, told: dict[str, None]) -> None:
    """The circuit of today takes attn.v and attn.o by itself; other layers would be another circuit."""
    if suffixes is None:
        return
    _known(suffixes, ("value_layer", "output_layer"), f"{where}.layer_suffixes")
    for key, expected in (("value_layer", "attn.v"), ("output_layer", "attn.o")):
        if key in suffixes and _kind(suffixes[key], where) != expected:
            raise UsageError(f"{where}.layer_suffixes: {key} {suffixes[key]!r} is not {expected}, as ov_circuit has it")
    told["  layer_suffixes of ov_circuit → the circuit's own sites, attn.v and attn.o"] = None


def _kind(suffix: object, where: str) -> str:
    """The site kind of a layer suffix of 1.0, such as ``attention.v_proj``."""
    found = PICO.sites_of(f"layers.0.{suffix}") if isinstance(suffix, str) else []
    if not found:
        raise UsageError(f"{where}: layer_suffixes {suffix!r} is no site, as attention.v_proj and swiglu.w_2 are")
    return Site.parse(found[0][0]).kind
