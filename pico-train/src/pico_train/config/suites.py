"""The file of a suite: a base, axes, and which runs they make. Pure; nothing is begun.

name: sizes
base: {preset: demo, training: {max_steps: 100}}     what all members share; `config: FILE` is a layer below it
axes: {size: [tiny, small], seed: [1, 2, 3]}         as `axes` reads them; members are all combinations
names: "{size}-{seed}"                               template of the members' names
exclude: [{size: small, seed: 3}]                    combinations that are left out
shared_batches: [size]                               members that differ in these axes alone see the same batches
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pico_schema import DocumentError, YamlError, layout, yaml_text
from pico_schema.manifest import Coordinate
from pico_schema.suites import MAX_MEMBERS
from pico_train.config import layers, mistakes
from pico_train.config.axes import Axis, Value, axis, shown
from pico_train.config.schema import RunConfig
from pico_train.errors import ConfigError, UsageError

_KEYS = ("name", "base", "axes", "names", "exclude", "shared_batches")
_PLACE = re.compile(r"\{([^{}]*)\}")
_AXIS_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_TAKEN = frozenset(
    {"run", "step", "tokens_seen", "split", "data", "component", "site", "layer", "head", "metric", "params"}
    | {"target_run", "target_step", "value", "reason", "n_samples", "target_layer", "n_features", "ci_low", "ci_high"}
    | {"null_mean", "null_p", "extra", "provenance", "digest"}
)
"""Columns of pico-analyze's tables, beside which the axes become columns."""

_WHOLE = {"training": {"micro_batch_size": None}}


@dataclass(frozen=True)
class Member:
    """One run of a suite."""

    name: str
    coordinates: Mapping[str, Coordinate]
    config: RunConfig


@dataclass(frozen=True)
class Suite:
    """A family of runs."""

    name: str
    out: Path
    """Directory in which the suite's own is made."""
    axes: Mapping[str, tuple[Coordinate, ...]]
    members: tuple[Member, ...]

    @property
    def directory(self) -> Path:
        """Where its runs lie."""
        return self.out / self.name


def load_suite(file: Path, *, out: str | Path | None = None) -> Suite:
    """The suite that a file describes.

    Args:
        file: YAML.
        out: Directory in which the suite's directory is made; by default the base's, which is ``runs``.

    Raises:
        UsageError: not a YAML file, or a preset that does not exist.
        ConfigError: an axis that is no setting, members with one name or of an impossible configuration, members whose
            data order differs where it is to be shared.
    """
    try:
        document = yaml_text.read(file)
    except YamlError as error:
        raise UsageError(str(error)) from None
    return _Reader(file, document).suite(out)


class _Reader:
    """Reads one file: what is in it, and on which line."""

    def __init__(self, file: Path, document: yaml_text.Document) -> None:
        self.file, self.document = file, document
        raw = document.value
        if not isinstance(raw, dict) or "axes" not in raw:
            raise ConfigError(f"{file}: not a suite: it has no `axes:`, such as `axes: {{size: [tiny, small]}}`")
        for key in raw:
            if key not in _KEYS:
                near = mistakes.did_you_mean(str(key), _KEYS)
                raise ConfigError(f"{self.at(key)}unknown key {key!r}{near}: known are {', '.join(_KEYS)}")
        self.raw: dict[str, Any] = raw
        self.base_layers, self.preset = self._base()

    def at(self, *path: Any) -> str:
        """What is said before a mistake: the file and the line."""
        line = self.document.line(tuple(path))
        return f"{self.file}, line {line}: " if line is not None else f"{self.file}: "

    def suite(self, out: str | Path | None) -> Suite:
        name = self._name()
        axes = self._axes()
        count = math.prod(len(each.values) for each in axes)
        if count > MAX_MEMBERS:
            raise ConfigError(
                f"{self.at('axes')}{count:,} combinations are more than a suite's {MAX_MEMBERS:,} members"
            )
        chosen = list(itertools.product(*(each.values for each in axes)))
        left_out = list(self._excluded(axes))
        chosen = [values for values in chosen if not any(self._matches(values, axes, rule) for rule in left_out)]
        if not chosen:
            raise ConfigError(f"{self.at('exclude')}exclude leaves no member")
        names = self._names(axes, chosen)
        base_out = out or next((layer["out"] for layer in reversed(self.base_layers) if "out" in layer), "runs")
        directory = Path(str(base_out)) / name
        members = tuple(
            Member(
                member,
                {each.name: value.coordinate for each, value in zip(axes, values, strict=True)},
                self._config(member, axes, values, directory),
            )
            for member, values in zip(names, chosen, strict=True)
        )
        self._check_shared(axes, members)
        return Suite(name, Path(str(base_out)), {a.name: tuple(v.coordinate for v in a.values) for a in axes}, members)

    def _name(self) -> str:
        name = self.raw.get("name", self.file.stem)
        try:
            return layout.check_run_name(name if isinstance(name, str) else shown(name))
        except DocumentError as error:
            raise ConfigError(f"{self.at('name')}name: {error}") from None

    def _base(self) -> tuple[list[dict[str, Any]], str]:
        base = self.raw.get("base") or {}
        if not isinstance(base, dict):
            raise ConfigError(f"{self.at('base')}base: settings such as {{preset: demo}} are expected")
        own = dict(base)
        found = []
        if (config := own.pop("config", None)) is not None:
            found.append(dict(layers.read_file(self.file.parent / str(config)).value))
        presets = [layer.pop("preset", None) for layer in (*found, own)]
        found.append(own)
        if "name" in own:
            raise ConfigError(f"{self.at('base', 'name')}base.name: members are named by `names`")
        return found, str(next((name for name in reversed(presets) if name), layers.DEFAULT_PRESET))

    def _axes(self) -> list[Axis]:
        raw = self.raw["axes"]
        if not isinstance(raw, dict) or not raw:
            raise ConfigError(f"{self.at('axes')}axes: write each with its values, such as seed: [1, 2]")
        for name in raw:
            if not isinstance(name, str) or not _AXIS_NAME.fullmatch(name) or name in _TAKEN:
                why = (
                    "a column of every table is called so" if name in _TAKEN else "take letters, digits, '_', '-', '.'"
                )
                raise ConfigError(f"{self.at('axes', name)}axes.{name}: cannot be the name of an axis: {why}")
        return [axis(name, values, self.at("axes", name)) for name, values in raw.items()]

    def _excluded(self, axes: Sequence[Axis]) -> Iterator[dict[str, list[Value]]]:
        rules = self.raw.get("exclude") or []
        known = {each.name: each for each in axes}
        for n, rule in enumerate([rules] if isinstance(rules, dict) else rules):
            where = self.at("exclude", n)
            if not isinstance(rule, dict) or not rule:
                raise ConfigError(f"{where}exclude: write combinations, such as - {{{axes[0].name}: …}}")
            found: dict[str, list[Value]] = {}
            for name, values in rule.items():
                if name not in known:
                    near = mistakes.did_you_mean(str(name), known)
                    raise ConfigError(f"{where}exclude: {name!r} is no axis{near}: axes are {', '.join(known)}")
                found[name] = []
                for value in values if isinstance(values, list) else [values]:
                    match = known[name].find(value)
                    if match is None:
                        there = ", ".join(each.text for each in known[name].values)
                        raise ConfigError(f"{where}exclude: axis {name} has no value {shown(value)}: it has {there}")
                    found[name].append(match)
            yield found

    @staticmethod
    def _matches(values: Sequence[Value], axes: Sequence[Axis], rule: Mapping[str, list[Value]]) -> bool:
        own = {each.name: value for each, value in zip(axes, values, strict=True)}
        return all(own[name] in wanted for name, wanted in rule.items())

    def _names(self, axes: Sequence[Axis], chosen: Sequence[Sequence[Value]]) -> list[str]:
        default = "-".join(f"{'' if a.named else a.name.rpartition('.')[2]}{{{a.name}}}" for a in axes)
        template, where = self.raw.get("names", default), self.at("names")
        if not isinstance(template, str):
            raise ConfigError(f"{where}names: a template such as {default!r} is expected")
        known = [each.name for each in axes]
        for name in _PLACE.findall(template):
            if name not in known:
                near = mistakes.did_you_mean(name, known)
                raise ConfigError(f"{where}names: {{{name}}} is no axis{near}: axes are {', '.join(known)}")
        seen: dict[str, Sequence[Value]] = {}
        names = []
        for values in chosen:
            texts = {each.name: value.text for each, value in zip(axes, values, strict=True)}
            name = template
            for each, text in texts.items():
                name = name.replace(f"{{{each}}}", text)
            try:
                layout.check_run_name(name)
            except DocumentError as error:
                raise ConfigError(f"{where}names: {error}") from None
            if name.casefold() in seen:
                both = " and ".join(_said(axes, each) for each in (seen[name.casefold()], values))
                missing = ", ".join(f"{{{each}}}" for each in known if f"{{{each}}}" not in template)
                fix = f": add {missing} to names" if missing else ""
                raise ConfigError(f"{where}names: two members are called {name!r} ({both}){fix}")
            seen[name.casefold()] = values
            names.append(name)
        return names

    def _config(self, name: str, axes: Sequence[Axis], values: Sequence[Value], directory: Path) -> RunConfig:
        written: dict[str, Any] = {}
        for layer in (*self.base_layers, *(value.settings for value in values)):
            written = layers.over(written, layer)

        def place(path: mistakes.Path) -> str:
            for each, value in zip(reversed(axes), reversed(values), strict=True):
                if _holds(value.settings, path):
                    return f"{self.at('axes', each.name)}member {name}: "
            return self.at("base", *path) if path else f"{self.file}: member {name}: "

        micro = next((value.micro_batch for value in values if value.micro_batch), None)
        if micro is not None and not _holds(written, ("training", "micro_batch_size")):
            # a preset's micro-batch is for the preset's batch: of another one, the largest part that divides it
            batch = layers.resolved(self.preset, layers.over(written, _WHOLE), {}, place).training.batch_size
            written = layers.over(written, layers.nested("training.micro_batch_size", math.gcd(micro, batch)))

        return layers.resolved(self.preset, written, {"name": name, "out": str(directory)}, place)

    def _check_shared(self, axes: Sequence[Axis], members: Sequence[Member]) -> None:
        """Refuse members whose batches differ where the file says that they share them."""
        shared, known = self.raw.get("shared_batches", False), [each.name for each in axes]
        if shared is False:
            return
        over = known if shared is True else [shared] if isinstance(shared, str) else shared
        where = self.at("shared_batches")
        if not isinstance(over, list):
            raise ConfigError(f"{where}shared_batches: true, or axes in which members may differ and see the same")
        for name in over:
            if name not in known:
                near = mistakes.did_you_mean(str(name), known)
                raise ConfigError(f"{where}shared_batches: {name!r} is no axis{near}: axes are {', '.join(known)}")
        first: dict[tuple[str, ...], Member] = {}
        for member in members:
            group = tuple(shown(value) for name, value in member.coordinates.items() if name not in over)
            other = first.setdefault(group, member)
            ours, theirs = batches(member.config), batches(other.config)
            differ = [name for name in ours if ours[name] != theirs[name]]
            if differ:
                raise ConfigError(
                    f"{where}shared_batches: {other.name} and {member.name} would not see the same batches: "
                    f"{differ[0]} is {theirs[differ[0]]!r} for one and {ours[differ[0]]!r} for the other: give all the "
                    "same in base, or leave the axis that changes it out of shared_batches"
                )


def batches(config: RunConfig) -> dict[str, Any]:
    """What decides which rows each batch of a run has: equal where two runs see the same batches."""
    where_read = {"prefetch", "cache_gb", "shards_ahead", "log_digests", "document_mask", "seed"}
    data = {f"data.{key}": value for key, value in config.data.model_dump(mode="json", exclude=where_read).items()}
    seed = config.sub_seed("data") if config.data.order == "shuffled" else None
    return data | {"training.batch_size": config.training.batch_size, "the seed of the data's order": seed}


def _said(axes: Sequence[Axis], values: Sequence[Value]) -> str:
    return ", ".join(f"{each.name}={value.text}" for each, value in zip(axes, values, strict=True))


def _holds(settings: Mapping[str, Any], path: mistakes.Path) -> bool:
    found: Any = settings
    for key in path:
        if not isinstance(found, Mapping) or key not in found:
            return False
        found = found[key]
    return bool(path)
