"""Where a configuration comes from: a preset, over it a YAML file, over that ``--set a.b=c``.

Decides how the layers combine and how a mistake in them is reported. What a valid configuration is, `schema` says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pico_train.config.describe import fields, is_section
from pico_train.config.schema import RunConfig
from pico_train.errors import ConfigError, UsageError

DEFAULT_PRESET = "demo"
_SHARED = {"family"}


def presets() -> list[str]:
    """Names of the presets, smallest model first.

    Returns:
        What `preset` of `load_config` and ``--preset`` take.

    Example:
        >>> presets()[:2]
        ['demo', 'tiny']
    """
    found = [entry.name for entry in files("pico_train.config.presets").iterdir() if entry.name.endswith(".yaml")]
    names = [name for name in (entry.removesuffix(".yaml") for entry in found) if name not in _SHARED]
    return sorted(names, key=lambda name: _resolve_preset(name)["model"]["d_model"] * (0 if name == "demo" else 1))


@cache
def _resolve_preset(name: str) -> dict[str, Any]:
    text = (files("pico_train.config.presets") / f"{name}.yaml").read_text(encoding="utf-8")
    layer: dict[str, Any] = yaml.safe_load(text)
    parent = layer.pop("extends", None)
    return merge(_resolve_preset(parent), layer) if parent else layer


def preset_values(name: str) -> dict[str, Any]:
    """The raw values of a preset.

    Raises:
        UsageError: there is none of this name; the message names the nearest and lists all.
    """
    names = presets()
    if name not in names:
        raise UsageError(f"no preset is called {name!r}{_did_you_mean(name, names)}: presets are {', '.join(names)}")
    return _resolve_preset(name)


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` over `below`: mappings are merged key by key, anything else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        known = merged.get(key)
        both = isinstance(known, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(known, value) if both else value  # type: ignore[arg-type]
    return merged


def parse_set(assignment: str) -> dict[str, Any]:
    """``a.b=c`` → ``{"a": {"b": c}}``, the value read as YAML.

    Raises:
        UsageError: no ``=``, an empty key, or a value that is not YAML.
    """
    path, equals, text = assignment.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise UsageError(f"--set {assignment!r}: write it as section.field=value, such as training.max_steps=100")
    try:
        value = yaml.safe_load(text) if text.strip() else None
    except yaml.YAMLError:
        raise UsageError(f"--set {assignment!r}: the value is not valid YAML; quote it if it is text") from None
    value = _number(value)
    for key in reversed(keys):
        value = {key: value}
    return value


def _number(value: Any) -> Any:
    """YAML 1.1 reads 3e-4 as text; people mean a number."""
    if isinstance(value, str):
        try:
            return float(value) if value.lower().strip("+-")[:1].isdigit() and "e" in value.lower() else value
        except ValueError:
            return value
    if isinstance(value, list):
        return [_number(item) for item in value]
    if isinstance(value, dict):
        return {key: _number(item) for key, item in value.items()}
    return value


def read_file(path: Path) -> dict[str, Any]:
    """The raw values of a YAML file.

    Raises:
        UsageError: not there, not readable, not YAML, or not a mapping.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise UsageError(f"{path}: not valid YAML{where}") from None
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise UsageError(f"{path}: expected sections such as `training:`, found a {type(raw).__name__}")
    values: dict[str, Any] = _number(raw)
    return values


def load_config(
    file: str | Path | None = None,
    *,
    preset: str | None = None,
    set: Iterable[str] = (),
    name: str | None = None,
    out: str | Path | None = None,
) -> RunConfig:
    """Resolve a configuration, as the command line does.

    Args:
        file: YAML over the preset; its key ``preset`` names one, unless `preset` does.
        preset: The layer below everything; `demo` by default.
        set: Texts ``section.field=value`` over the file.
        name: Name of the run, over everything.
        out: Directory in which the run's directory is made, over everything.

    Returns:
        The configuration: strict, immutable, complete.

    Raises:
        ConfigError: one sentence per mistake, naming the key, the value and the fix.

    Example:
        >>> config = load_config(preset="tiny", set=["training.max_steps=100"], name="short")
        >>> config.model.d_model
        96
    """
    layer = read_file(Path(file)) if file is not None else {}
    chosen = preset or layer.pop("preset", None) or DEFAULT_PRESET
    layer.pop("preset", None)
    raw = merge(preset_values(str(chosen)), layer)
    for assignment in set:
        raw = merge(raw, parse_set(assignment))
    return validate(merge(raw, {key: str(value) for key, value in (("name", name), ("out", out)) if value is not None}))


def validate(raw: Mapping[str, Any]) -> RunConfig:
    """The configuration of raw values.

    Raises:
        ConfigError: as `load_config`.
    """
    try:
        return RunConfig.model_validate(raw)
    except ValidationError as error:
        sentences = list(dict.fromkeys(_sentence(item) for item in error.errors(include_url=False)))
        raise ConfigError("; ".join(sentences)) from None


def _sentence(item: Any) -> str:
    path = [str(part) for part in item["loc"]]
    known = _fields_at(path[:-1])
    while path and known is None:  # a member of a union adds its own name to the location
        path.pop()
        known = _fields_at(path[:-1])
    key = ".".join(path)
    if item["type"] == "extra_forbidden":
        names = list(known or ())
        near = _did_you_mean(path[-1], names)
        if not near:
            near = _elsewhere(path[-1])
        inside = f" in {'.'.join(path[:-1])}" if path[:-1] else ""
        return f"unknown setting {key!r}{near}: known{inside} are {', '.join(names)}"
    message = str(item["msg"]).removeprefix("Value error, ")
    message = message[:1].lower() + message[1:] if message[:5] == "Input" else message
    if not key:
        return message
    return f"{key}: {message}, but it is {item['input']!r}" if item["type"] != "value_error" else f"{key}: {message}"


def _fields_at(path: Iterable[str]) -> list[str] | None:
    model: Any = RunConfig
    for part in path:
        field = model.model_fields.get(part) if is_section(model) else None
        model = field.annotation if field else None
    return list(model.model_fields) if is_section(model) else None


def _elsewhere(name: str) -> str:
    """A hint for a field that exists, in another section."""
    paths = [path for path in fields() if path.rpartition(".")[2] == name]
    return f"; did you mean {paths[0]!r}" if paths else ""


def _did_you_mean(name: str, names: Iterable[str]) -> str:
    near = get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}" if near else ""


def to_yaml(config: RunConfig) -> str:
    """The resolved configuration as YAML, for people and for ``pico-train run FILE``."""
    text: str = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)
    return text
