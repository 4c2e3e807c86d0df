"""What a run is part of, as rows tell it in their provenance."""

from __future__ import annotations

from pico_analyze.stores.base import HasLineage, Store

COORDINATES = "coordinates"
"""Key of the provenance that holds a run's coordinates in its suite."""


def membership_facts(store: Store) -> dict[str, object]:
    """The suite that a run is of, and its coordinates there; nothing for other runs."""
    member = store.membership() if isinstance(store, HasLineage) else None
    return {} if member is None else {"suite": member.name, COORDINATES: dict(member.coordinates)}
