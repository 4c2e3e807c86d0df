"""Under which configuration a run may go on: some fields may change, the others would make it another run."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from pico_schema import ConfigChange, DataFingerprint
from pico_train.checkpoint.consumed import DATA_CHANGED
from pico_train.errors import ConfigError

FREE = (
    "training.max_steps",
    "training.micro_batch_size",
    "training.compile",
    "training.recompute",
    "training.loss_chunk",
    "distributed",
    "publish",
    "monitoring",
    "evaluation.probes",
    "evaluation.probes_out",
    "evaluation.batch_size",
    "evaluation.tasks",
    "evaluation.tasks_cadence",
    "evaluation.stride",
    "evaluation.tokenizer",
    "evaluation.allow_overlap",
    "data.prefetch",
    "data.cache_gb",
    "data.shards_ahead",
    "data.log_digests",
)
"""Fields and sections that may change on a resume: length, devices and how they are used, publishing, logging."""

AFTERWARDS = ("training.max_steps", "publish", "monitoring")
"""What may change of a run that is finished: how long it was to be (down to where it is), and what is done with it. All
else says how it was trained, and nothing is trained any more."""

NEVER = ("model", "seed", "training.init_seed", "data.seed", "data.seq_len", "data.order")
"""Fields and sections that not even `--override` changes: the weights would be another model's, or the rows that were
consumed could not be told from those to come, so that some would be trained on twice and some never."""

PLACE = "out"
"""Where the run's directory lies is no part of what the run is: it may be moved."""


def config_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Fields that differ between two resolved configurations (as JSON values): dotted name, value before, value after.

    A field that only one of them has counts as None in the other. The directory that the run lies in is left out.
    """
    return [change for change in _differences(before, after) if change[0] != PLACE]


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    changes: list[tuple[str, Any, Any]] = []
    for key in dict.fromkeys([*before, *after]):
        old, new = before.get(key), after.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            changes += [(f"{key}.{name}", was, now) for name, was, now in _differences(old, new)]
        elif _plain(old) != _plain(new):
            changes.append((key, old, new))
    return changes


def _plain(value: Any) -> Any:
    """Tuples as lists, as JSON has them."""
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def is_free(field: str) -> bool:
    """Whether a field may change on a resume."""
    return _among(field, FREE)


def _among(field: str, names: Iterable[str]) -> bool:
    return any(field == name or field.startswith(f"{name}.") for name in names)


def accept_changes(
    changes: Iterable[tuple[str, Any, Any]], *, step: int, when: datetime, override: bool = False
) -> tuple[ConfigChange, ...]:
    """The entries for the run's manifest, if the run may go on with these changes.

    Args:
        changes: What `config_changes` returned.
        step: Step from which the run goes on.
        when: The moment, with time zone.
        override: Accept any change but those of `NEVER`.

    Raises:
        ConfigError: fields changed that may not; the message names each with both values.
    """
    changes = list(changes)
    if override:
        refused = [item for item in changes if _among(item[0], NEVER)]
        ways = "Put it back, or give the run another name: not even --override changes this"
    else:
        refused = [item for item in changes if not is_free(item[0])]
        ways = "Put it back, give the run another name, or resume with --override"
    if refused:
        listing = "; ".join(f"{name} was {old!r}, is now {new!r}" for name, old, new in refused)
        raise ConfigError(f"the run was begun with another configuration: {listing}. {ways}")
    return tuple(ConfigChange(step=step, when=when, field=name, before=old, after=new) for name, old, new in changes)


def divide_finished(changes: Iterable[ConfigChange]) -> tuple[tuple[ConfigChange, ...], tuple[ConfigChange, ...]]:
    """The changes that a finished run records, and those that it does not: no update is made under them."""
    changes = tuple(changes)
    recorded = tuple(change for change in changes if _among(change.field, AFTERWARDS))
    return recorded, tuple(change for change in changes if change not in recorded)


def applied(config: Mapping[str, Any], changes: Iterable[ConfigChange]) -> dict[str, Any]:
    """A copy of a configuration (as JSON values) with changes made to it."""
    changed: dict[str, Any] = copy.deepcopy(dict(config))
    for change in changes:
        _put(changed, change.field, change.after)
    return changed


def _put(config: dict[str, Any], field: str, value: Any) -> None:
    *sections, key = field.split(".")
    target = config
    for section in sections:
        target = target.setdefault(section, {})
    target[key] = value


def configuration_at(
    config: Mapping[str, Any], changes: Iterable[ConfigChange], step: int
) -> tuple[dict[str, Any], tuple[ConfigChange, ...], tuple[ConfigChange, ...]]:
    """The configuration under which a run arrived at a step: what holds from a later step on is taken back.

    A run that resumes at step N has not made the changes that were made after N: they belong to the steps that are set
    aside.

    Args:
        config: The run's configuration by now, as JSON values.
        changes: All changes that its manifest records, in their order.
        step: Updates done.

    Returns:
        The configuration; the changes up to the step, and those after it.
    """
    changes = tuple(changes)
    back: dict[str, Any] = copy.deepcopy(dict(config))
    later = tuple(change for change in changes if change.step > step)
    for change in reversed(later):
        if change.field == DATA_CHANGED:
            continue  # no field of the configuration
        _put(back, change.field, change.before)
    return back, tuple(change for change in changes if change.step <= step), later


def data_change(before: DataFingerprint, after: DataFingerprint, *, step: int) -> ConfigChange:
    """The entry for a run that goes on with other data, which begin at their first row."""
    return ConfigChange(step=step, when=datetime.now(UTC), field=DATA_CHANGED, before=before.sha256, after=after.sha256)
