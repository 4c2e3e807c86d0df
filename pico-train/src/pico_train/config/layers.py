"""Where a configuration comes from: a preset, over it a YAML file, over that ``--set a.b=c``.

Decides how the layers combine. What a text means, `pico_schema.yaml_text` says; what a valid configuration is,
`schema`; how a mistake is told, `mistakes`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pico_schema import ModelSpec, YamlError, yaml_text
from pico_train.config import mistakes
from pico_train.config.optimizer import ScalingConfig
from pico_train.config.schema import RunConfig
from pico_train.config.training import ModelConfig
from pico_train.errors import ConfigError, UsageError

DEFAULT_PRESET = "demo"
_SHARED = {"family"}
_ALTERNATIVES = (("training", "schedule", "warmup"), ("training", "schedule", "warmup_steps"))
"""Two settings that say the same thing in two ways: the one in a higher layer takes the place of the other below it."""


def presets() -> list[str]:
    """Names of the presets, smallest model first.

    Returns:
        What `preset` of `load_config` and ``--preset`` take.

    Example:
        >>> presets()[:2]
        ['demo', 'induction']
    """
    found = [entry.name for entry in files("pico_train.config.presets").iterdir() if entry.name.endswith(".yaml")]
    names = [name for name in (entry.removesuffix(".yaml") for entry in found) if name not in _SHARED]
    return sorted(names, key=lambda name: _resolve_preset(name)["model"]["d_model"] * (0 if name == "demo" else 1))


@cache
def _resolve_preset(name: str) -> dict[str, Any]:
    content = (files("pico_train.config.presets") / f"{name}.yaml").read_bytes()
    layer: dict[str, Any] = yaml_text.parse(content, where=f"preset {name}").value
    parent = layer.pop("extends", None)
    return merge(_resolve_preset(parent), layer) if parent else layer


def preset_values(name: str) -> dict[str, Any]:
    """The raw values of a preset.

    Raises:
        UsageError: there is none of this name; the message names the nearest and lists all.
    """
    names = presets()
    if name not in names:
        raise UsageError(
            f"no preset is called {name!r}{mistakes.did_you_mean(name, names)}: presets are {', '.join(names)}"
        )
    return _resolve_preset(name)


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` over `below`: mappings are merged key by key, anything else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        known = merged.get(key)
        both = isinstance(known, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(known, value) if both else value  # type: ignore[arg-type]
    return merged


def over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """One layer over another: as `merge`, and what says the same thing as a setting above is gone."""
    for one, other in (_ALTERNATIVES, _ALTERNATIVES[::-1]):
        if _at(above, one) is not None and other[-1] not in (_at(above, other[:-1]) or {}):
            below = _without(below, other)
    return merge(below, above)


def _at(values: Mapping[str, Any], path: Iterable[str]) -> Any:
    found: Any = values
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _without(values: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    key, *rest = path
    if not rest:
        return {name: value for name, value in values.items() if name != key}
    inner = values.get(key)
    return {**values, key: _without(inner, tuple(rest))} if isinstance(inner, Mapping) else dict(values)


def parse_set(assignment: str) -> dict[str, Any]:
    """``a.b=c`` → ``{"a": {"b": c}}``, the value read as YAML.

    Raises:
        UsageError: no ``=``, an empty key, or a value that is not YAML.
    """
    path, equals, text = assignment.partition("=")
    keys = _keys(assignment)
    if not equals or not all(keys):
        raise UsageError(f"--set {assignment!r}: write it as section.field=value, such as training.max_steps=100")
    shown = repr(assignment) if len(assignment) < 100 else repr(path + "=…")
    try:
        value = yaml_text.parse_value(text, where=f"--set {shown}")
    except YamlError as error:
        raise UsageError(str(error)) from None
    for key in reversed(keys):
        value = {key: value}
    return dict(value)


def _keys(assignment: str) -> tuple[str, ...]:
    return tuple(assignment.partition("=")[0].strip().split("."))


def read_file(path: Path) -> yaml_text.Document:
    """The raw values of a YAML file, and their lines.

    Raises:
        UsageError: not there, not readable, not YAML, or not a mapping.
    """
    try:
        document = yaml_text.read(path)
    except YamlError as error:
        raise UsageError(str(error)) from None
    if document.value is None:
        return yaml_text.Document({})
    if not isinstance(document.value, dict):
        raise UsageError(f"{path}: expected sections such as `training:`, found a {type(document.value).__name__}")
    return document


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
    document = read_file(Path(file)) if file is not None else yaml_text.Document({})
    written = dict(document.value)
    chosen = preset or written.get("preset") or DEFAULT_PRESET
    written.pop("preset", None)
    assignments = list(set)
    for assignment in assignments:
        written = over(written, parse_set(assignment))
    words = {key: str(value) for key, value in (("name", name), ("out", out)) if value is not None}
    assigned = [_keys(assignment) for assignment in assignments]

    def place(path: mistakes.Path) -> str:
        by_word = any(path[: len(keys)] == keys[: len(path)] for keys in assigned) or path[:1] in [(w,) for w in words]
        line = None if by_word or not path or path not in document.lines else document.line(path)
        return f"{file}, line {line}: " if line is not None else ""

    return resolved(str(chosen), written, words, place)


def resolved(
    preset: str,
    written: Mapping[str, Any],
    words: Mapping[str, Any],
    place: Callable[[mistakes.Path], str] = lambda _: "",
) -> RunConfig:
    """The configuration of a preset, what was written over it, and the words over that.

    Args:
        preset: Name of the layer below everything.
        written: Settings, as they nest.
        words: The run's name and directory, where they are given apart.
        place: where a setting was written, for messages.

    Raises:
        ConfigError: as `load_config`.
    """
    below = preset_values(preset)
    if _at(written, ("data", "source")) is None and (_at(written, ("data", "paths")) or _at(written, ("data", "repo"))):
        below = _without(below, ("data", "source"))  # what is to be read says what kind of source it is
    return validate(over(following_size(over(below, written), written), words), place)


def nested(path: str, value: Any) -> dict[str, Any]:
    """``a.b`` and a value → ``{"a": {"b": value}}``."""
    for key in reversed(path.split(".")):
        value = {key: value}
    return dict(value)


def following_size(merged: Mapping[str, Any], written: Mapping[str, Any]) -> dict[str, Any]:
    """The values of all layers, with what `training.scaling` makes of the base in place of what the preset says.

    Args:
        merged: all layers, one over the other.
        written: those above the preset. What they say themselves stays, and is refused if the rule says another.
    """
    training, model = _at(merged, ("training",)), merged.get("model", {})
    if _at(merged, ("training", "scaling", "rule")) != "ladder":
        return dict(merged)
    try:
        scaling = ScalingConfig.model_validate(training["scaling"])
        size = ModelConfig.model_validate(model).model_dump(exclude={"init"})
        lr, rows = scaling.ladder(ModelSpec(**size))
    except ValidationError:
        return dict(merged)  # it is told of where everything is validated
    made: dict[str, Any] = {}
    if _at(written, ("training", "optimizer", "lr")) is None:
        made["optimizer"] = {"lr": lr}
    if _at(written, ("training", "batch_size")) is None:
        made["batch_size"] = rows
    return merge(merged, {"training": made})


def validate(raw: Mapping[str, Any], place: Callable[[mistakes.Path], str] = lambda _: "") -> RunConfig:
    """The configuration of raw values.

    Args:
        raw: as JSON or YAML has them.
        place: where a setting was written, for messages.

    Raises:
        ConfigError: as `load_config`.
    """
    try:
        return RunConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(mistakes.sentences(error, place)) from None


def to_yaml(config: RunConfig) -> str:
    """The resolved configuration as YAML, for people and for ``pico-train run FILE``, which reads the very same one."""
    return yaml_text.dump(config.model_dump(mode="json"))
