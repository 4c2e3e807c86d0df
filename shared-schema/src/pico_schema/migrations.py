"""The version gate, and how documents of older versions become current ones.

A document says ``schema_version: "MAJOR.MINOR"``. A newer major version is refused with the command that upgrades;
a newer minor version is read, its new fields ignored; an older one is brought forward, one registered step at a time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pico_schema.errors import DocumentError, SchemaVersionError
from pico_schema.manifest import SCHEMA_VERSION

Migration = Callable[[dict[str, Any]], dict[str, Any]]

MIGRATIONS: dict[tuple[str, int], Migration] = {}
"""(kind of document, major version it comes from) → function to the next major version. Version 1 is the first, so
there is none yet; the frame is exercised by tests with a made-up version 0."""

_VERSION = re.compile(r"([0-9]{1,6})\.([0-9]{1,6})")


def parse_version(text: object) -> tuple[int, int]:
    """``"1.0"`` → ``(1, 0)``.

    Raises:
        DocumentError: not a version.
    """
    match = _VERSION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise DocumentError(f"schema_version is {str(text)[:40]!r}: expected MAJOR.MINOR, such as {SCHEMA_VERSION!r}")
    return int(match[1]), int(match[2])


def migrate(
    raw: dict[str, Any],
    kind: str,
    *,
    where: str,
    current: str = SCHEMA_VERSION,
    migrations: Mapping[tuple[str, int], Migration] = MIGRATIONS,
) -> dict[str, Any]:
    """Bring a raw document of `kind` to the current major version.

    Args:
        raw: The parsed JSON object.
        kind: Kind of document: run, checkpoint, evaluation.
        where: Its path or address, for messages.
        current: Version to arrive at.
        migrations: Registered steps.

    Raises:
        SchemaVersionError: written by a newer major version.
        DocumentError: no version, or no way from its version to the current one.
    """
    if "schema_version" not in raw:
        raise DocumentError(f"{where}: no schema_version: not a document of Pico, or a damaged one")
    major, minor = parse_version(raw["schema_version"])
    wanted = parse_version(current)[0]
    if major > wanted:
        raise SchemaVersionError(
            f"{where}: written under schema {major}.{minor}, this program reads up to {wanted}.x: "
            "run `pip install --upgrade pico-schema pico-train pico-analyze`"
        )
    while major < wanted:
        step = migrations.get((kind, major))
        if step is None:
            raise DocumentError(
                f"{where}: no migration leads from schema {major}.x to {wanted}.x for a {kind} document"
            )
        raw = step(dict(raw))
        reached = parse_version(raw.get("schema_version"))[0]
        if reached <= major:
            raise DocumentError(f"{where}: the migration from schema {major}.x does not lead forward")
        major = reached
    return raw
