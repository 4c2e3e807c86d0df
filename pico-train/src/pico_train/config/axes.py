"""Axes of a suite: what each value of one sets in a configuration.

seed: [1, 2]                          a setting by its dotted path, or by its last word where only one has it
optimizer: [adamw, muon]              a section that has a name: training.optimizer.name
data_seed: [1, 2]  weights_seed: [1]  data.seed and training.init_seed, apart: factorials of the two
size: [tiny, small]                   presets, of which the model's section and the micro-batch are taken
size: {s: {model: {…}}, m: {…}}       values with names of their own, each with the settings that it stands for
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pico_schema.manifest import Coordinate
from pico_train.config import describe, layers
from pico_train.config.mistakes import did_you_mean
from pico_train.errors import ConfigError

SIZE = "size"
_WORDS = {"data_seed": "data.seed", "weights_seed": "training.init_seed"}
_NOT_AXES = {"name": "name", "out": "--out"}


@dataclass(frozen=True)
class Value:
    """One value of an axis."""

    coordinate: Coordinate
    """What the run's manifest and tables call it."""
    settings: Mapping[str, Any]
    """What it sets, as settings nest."""
    micro_batch: int | None = None
    """The micro-batch of the preset that it is the size of, where the base does not set one."""

    @property
    def text(self) -> str:
        """The value as a part of a name."""
        return shown(self.coordinate)


@dataclass(frozen=True)
class Axis:
    """One thing in which the members of a suite differ."""

    name: str
    values: tuple[Value, ...]
    named: bool
    """Whether its values are names, which need no word before them."""

    def find(self, coordinate: object) -> Value | None:
        """The value of this coordinate; true is not 1."""
        return next((v for v in self.values if (v.coordinate, v.text) == (coordinate, shown(coordinate))), None)


def shown(value: object) -> str:
    """A coordinate as text: true, null, 0.001."""
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else "null" if value is None else str(value)


def axis(name: str, values: object, where: str) -> Axis:
    """The axis of this name, with what its values set.

    Args:
        name: as the file has it.
        values: a list of plain values, or a mapping from names to settings.
        where: what an error begins with.

    Raises:
        ConfigError: it is no setting (the nearest is named), has no values, or one twice.
    """
    if not isinstance(values, list | dict) or not values:
        raise ConfigError(
            f"{where}axes.{name}: write a list of values, such as {name}: [1, 2], or names with the settings that each "
            "stands for"
        )
    if isinstance(values, dict):
        found = [_named_value(name, key, settings, where) for key, settings in values.items()]
        return Axis(name, tuple(found), named=True)
    for value in values:
        if isinstance(value, list | dict):
            raise ConfigError(
                f"{where}axes.{name}: {str(value)[:60]} is no plain value: give it a name, such as {name}: {{a: "
                f"{{section: {{setting: …}}}}}}"
            )
        if [shown(other) for other in values].count(shown(value)) > 1:
            raise ConfigError(f"{where}axes.{name}: {shown(value)} is there twice")
    if name == SIZE:
        found = [_of_preset(value, str(value), {}) for value in values]
        return Axis(name, tuple(found), named=True)
    path = setting(name, where)
    found = [Value(value, layers.nested(path, value)) for value in values]
    return Axis(name, tuple(found), named=all(isinstance(value, str) for value in values))


def _named_value(name: str, key: object, settings: object, where: str) -> Value:
    if not isinstance(settings, dict):
        raise ConfigError(
            f"{where}axes.{name}.{key}: settings such as {{model: {{d_model: 64}}}} are expected, found "
            f"{str(settings)[:60]!r}"
        )
    own = dict(settings)
    preset = own.pop("preset", None)
    return Value(shown(key), own) if preset is None else _of_preset(shown(key), str(preset), own)


def _of_preset(coordinate: Coordinate, name: str, above: Mapping[str, Any]) -> Value:
    """The size of a preset: its model, and the micro-batch that goes with it.

    Raises:
        UsageError: there is no such preset; the message names the nearest.
    """
    values = layers.preset_values(name)
    micro = values.get("training", {}).get("micro_batch_size")
    return Value(coordinate, layers.over({"model": values["model"]}, above), micro)


def setting(name: str, where: str) -> str:
    """The dotted path of the setting that an axis of this name varies.

    Raises:
        ConfigError: there is none, or there are several.
    """
    paths = list(describe.fields())
    if name in _NOT_AXES:
        raise ConfigError(f"{where}axes.{name}: it is no axis: names are made by `names`, the directory is --out")
    if name in paths:
        return name
    if name in _WORDS:
        return _WORDS[name]
    ends = [path for path in paths if path.endswith(f".{name}")]
    if len(ends) == 1:
        return ends[0]
    if ends:
        raise ConfigError(f"{where}axes.{name}: several settings are called so: write one of {', '.join(ends)}")
    sections = [path for path in paths if f".{path}".endswith(f".{name}.name")]
    if len(sections) == 1:
        return sections[0]
    last = {path.rpartition(".")[2]: path for path in paths}
    near = did_you_mean(name, [*paths, *last, *_WORDS, SIZE])
    raise ConfigError(
        f"{where}axes.{name}: there is no such setting{near}; an axis is {SIZE}, a setting by its path, such as "
        "training.optimizer.lr, or names with settings of their own"
    )
