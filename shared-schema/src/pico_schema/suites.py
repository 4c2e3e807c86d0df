"""The document of a suite: a family of runs that differ in named things, each in a directory of its own beside it.

    runs/<suite>/suite.json            this document
    runs/<suite>/<member>/run.json     a run like any other, whose manifest says its suite and its coordinates

Since schema 1.2.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pico_schema.layout import check_run_name
from pico_schema.manifest import SCHEMA_VERSION, AxisName, Coordinate, Document, Producer

MAX_MEMBERS = 10_000
"""Most members of a suite."""


class SuiteMember(Document):
    """One run of a suite: what it is to be, begun or not."""

    name: str
    """Name of the run: its directory and its branch."""
    coordinates: dict[AxisName, Coordinate]
    """Axis → value."""
    config: dict[str, Any]
    """The resolved configuration."""


class SuiteChange(Document):
    """A change of a suite's file after the suite was begun."""

    when: datetime
    """When it was accepted."""
    what: Annotated[str, Field(max_length=2000)]
    """One sentence: the member, the setting, both values."""


class SuiteManifest(Document):
    """What a suite is. Replaced atomically when its file was changed."""

    kind: Literal["suite"] = "suite"
    """Kind of document."""
    schema_version: Annotated[str, Field(pattern=r"^\d+\.\d+$")] = SCHEMA_VERSION
    """Version of the contract it was written under."""
    name: str
    """Name: its directory."""
    created: datetime
    """When the suite was begun, with time zone."""
    producer: Producer
    """Who wrote it."""
    axes: dict[AxisName, tuple[Coordinate, ...]]
    """Axis → its values, in the order of the suite's file."""
    members: Annotated[tuple[SuiteMember, ...], Field(max_length=MAX_MEMBERS)]
    """Its runs, in the order in which they are trained one after the other."""
    changes: tuple[SuiteChange, ...] = ()
    """What was changed after it was begun."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_run_name(self.name)
        seen: set[str] = set()
        for member in self.members:
            name = check_run_name(member.name).casefold()
            if name in seen:
                raise ValueError(f"two members are called {name!r}")
            seen.add(name)
            if member.coordinates.keys() != self.axes.keys():
                raise ValueError(f"member {member.name!r} does not have one value on each axis")
        return self
