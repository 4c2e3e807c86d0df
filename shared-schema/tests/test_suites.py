"""The document of a suite, and what a run says of its suite and its parent."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pico_schema import (
    DocumentError,
    Membership,
    Parent,
    Producer,
    SuiteChange,
    SuiteManifest,
    SuiteMember,
    documents,
    layout,
)
from pico_schema.manifest import RunManifest


def suite(**changes: Any) -> SuiteManifest:
    members = tuple(
        SuiteMember(name=f"{size}-{seed}", coordinates={"size": size, "seed": seed}, config={"seed": seed})
        for size in ("s", "m")
        for seed in (1, 2)
    )
    values = {
        "name": "sizes",
        "created": datetime(2026, 1, 1, tzinfo=UTC),
        "producer": Producer(name="pico-train", version="2"),
        "axes": {"size": ("s", "m"), "seed": (1, 2)},
        "members": members,
    }
    return SuiteManifest(**values | changes)


def test_a_suite_is_read_as_it_was_written(tmp_path: Path) -> None:
    for axes in ({"x": (1, 1.5, True, None, "a")}, {"size": ("s",)}):
        document = suite(axes=axes, members=())
        documents.write(tmp_path / layout.SUITE_MANIFEST, document)
        assert documents.read(tmp_path / layout.SUITE_MANIFEST, SuiteManifest) == document
    assert documents.parse(documents.dump(suite()), SuiteManifest, where="x") == suite()


def test_what_no_suite_can_be_is_refused() -> None:
    [first, *rest] = suite().members
    with pytest.raises(ValidationError, match="two members are called 's-1'"):
        suite(members=(first, *rest, first.model_copy(update={"name": "S-1"})))
    with pytest.raises(ValidationError, match="two members are called 's-2'"):
        suite(members=(first, *rest, rest[0]))
    with pytest.raises(ValidationError, match="member 's-1' does not have one value on each axis"):
        suite(members=(first.model_copy(update={"coordinates": {"size": "s"}}),))
    for name in ("../x", "", "a b"):
        with pytest.raises((ValidationError, DocumentError)):
            suite(name=name)


def test_bounds_of_a_suite() -> None:
    members = [SuiteMember(name=f"m{n}", coordinates={}, config={}) for n in range(10_001)]
    assert len(suite(axes={}, members=tuple(members[:10_000])).members) == 10_000
    with pytest.raises(ValidationError, match="at most 10000"):
        suite(axes={}, members=tuple(members))
    when = datetime(2026, 1, 1, tzinfo=UTC)
    assert len(SuiteChange(when=when, what="x" * 2000).what) == 2000
    with pytest.raises(ValidationError, match="at most 2000"):
        SuiteChange(when=when, what="x" * 2001)


def test_a_run_says_its_suite_and_its_parent_and_older_ones_say_neither(run: Path) -> None:
    document = documents.read_run(run)
    assert (document.suite, document.parent) == (None, None)
    of = Membership(name="sizes", coordinates={"size": "s", "seed": 1, "lr": 0.001, "flag": True, "none": None})
    parent = Parent(
        run_id="a" * 32,
        run_name="trunk",
        step=6,
        manifest_sha256="b" * 64,
        location="hf://org/name@trunk",
        optimizer="fresh",
        data="anew",
    )
    changed = document.model_copy(update={"suite": of, "parent": parent})
    read = documents.parse(documents.dump(changed), RunManifest, where="x")
    assert (read.suite, read.parent) == (of, parent)
    assert list(read.suite.coordinates) == ["size", "seed", "lr", "flag", "none"]  # in the order of the file
    with pytest.raises(DocumentError, match="cannot be used"):
        Membership(name="../up", coordinates={})
