"""Under which configuration a run may go on: some fields may change, the others would make it another run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from pico_schema import ConfigChange
from pico_train.errors import ConfigError

FREE = (
    "training.max_steps",
    "training.micro_batch_size",
    "training.compile",
    "distributed",
    "publish",
    "monitoring",
    "data.prefetch",
    "data.cache_gb",
    "data.shards_ahead",
    "data.log_digests",
)
"""Fields and sections that may change on a resume: length, devices and how they are used, publishing, logging."""


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
    return any(field == name or field.startswith(f"{name}.") for name in FREE)


def accept_changes(
    changes: Iterable[tuple[str, Any, Any]], *, step: int, when: datetime, override: bool = False
) -> tuple[ConfigChange, ...]:
    """The entries for the run's manifest, if the run may go on with these changes.

    Args:
        changes: What `config_changes` returned.
        step: Step from which the run goes on.
        when: The moment, with time zone.
        override: Accept any change.

    Raises:
        ConfigError: fields changed that may not; the message names each with both values.
    """
    changes = list(changes)
    refused = [] if override else [item for item in changes if not is_free(item[0])]
    if refused:
        listing = "; ".join(f"{name} was {old!r}, is now {new!r}" for name, old, new in refused)
        raise ConfigError(
            f"the run was begun with another configuration: {listing}. Put it back, give the run another name, "
            "or resume with --override"
        )
    return tuple(ConfigChange(step=step, when=when, field=name, before=old, after=new) for name, old, new in changes)
