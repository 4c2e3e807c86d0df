from __future__ import annotations

from typing import Any

import pytest

from pico_schema import DocumentError, SchemaVersionError
from pico_schema.migrations import migrate


def one_to_two(raw: dict[str, Any]) -> dict[str, Any]:
    return raw | {"schema_version": "2.0", "steps": raw["step"]}


def two_to_three(raw: dict[str, Any]) -> dict[str, Any]:
    return raw | {"schema_version": "3.1", "updates": raw["steps"]}


STEPS = {("checkpoint", 1): one_to_two, ("checkpoint", 2): two_to_three}


def test_an_older_document_is_brought_forward_one_version_at_a_time() -> None:
    raw = {"schema_version": "1.4", "step": 8}
    migrated = migrate(raw, "checkpoint", where="x", current="3.0", migrations=STEPS)
    assert migrated == {"schema_version": "3.1", "step": 8, "steps": 8, "updates": 8}
    assert raw == {"schema_version": "1.4", "step": 8}, "the document itself is left as it was"


def test_a_current_document_is_left_alone() -> None:
    raw = {"schema_version": "3.7", "step": 8}
    assert migrate(raw, "checkpoint", where="x", current="3.0", migrations=STEPS) == raw


def test_a_missing_step_is_named() -> None:
    with pytest.raises(DocumentError, match=r"from schema 1\.x to 3\.x for a run document"):
        migrate({"schema_version": "1.0"}, "run", where="x", current="3.0", migrations=STEPS)


def test_a_newer_major_version_is_refused() -> None:
    with pytest.raises(
        SchemaVersionError, match=r"^x: written under schema 4\.7, this program reads up to 3\.x: .*upgrade"
    ):
        migrate({"schema_version": "4.7"}, "checkpoint", where="x", current="3.0", migrations=STEPS)


def test_a_step_that_leads_nowhere_does_not_loop() -> None:
    with pytest.raises(DocumentError, match="does not lead forward"):
        migrate({"schema_version": "1.0"}, "run", where="x", current="2.0", migrations={("run", 1): lambda raw: raw})
