"""A suite's directory in place of runs: its members that are begun, in its order."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from pico_analyze.errors import DataError, NotARunError
from pico_analyze.stores.opening import local_runs
from pico_analyze.stores.run_names import expanded, resolve_all
from pico_conformance.runs import write_run
from pico_schema import Producer, SuiteManifest, SuiteMember, documents, layout


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three members, of which two are begun."""
    monkeypatch.chdir(tmp_path)
    directory = tmp_path / "runs" / "sizes"
    for name in ("b", "a"):
        write_run(directory, name=name)
    documents.write(
        directory / layout.SUITE_MANIFEST,
        SuiteManifest(
            name="sizes",
            created=datetime(2026, 1, 1, tzinfo=UTC),
            producer=Producer(name="pico-train", version="0"),
            axes={"seed": (1, 2, 3)},
            members=tuple(
                SuiteMember(name=name, coordinates={"seed": seed}, config={})
                for name, seed in (("b", 1), ("a", 2), ("c", 3))
            ),
        ),
    )
    return directory


def test_a_suite_is_its_begun_runs_by_name_or_path(suite: Path) -> None:
    assert expanded(["sizes"]) == ["runs/sizes/b", "runs/sizes/a"]
    assert expanded([suite, "x"]) == [str(suite / "b"), str(suite / "a"), "x"]
    assert [run.location for run in resolve_all(["sizes"])] == ["runs/sizes/b", "runs/sizes/a"]
    assert [(run.location, run.step) for run in resolve_all(["sizes@last"])] == [
        ("runs/sizes/b", "last"),
        ("runs/sizes/a", "last"),
    ]
    assert {path.name for path in local_runs()} == {"a", "b"}


def test_a_suite_of_which_nothing_is_begun_or_that_is_damaged_says_so(suite: Path) -> None:
    for name in ("a", "b"):
        (suite / name).rename(suite.parent / name)
    with pytest.raises(NotARunError, match=r"none of the suite's 3 runs is begun: `pico-train suite resume"):
        expanded(["sizes"])
    (suite / layout.SUITE_MANIFEST).write_text("{")
    with pytest.raises(DataError, match=r"suite\.json: not valid JSON"):
        expanded(["sizes"])
