"""What runs on other people's machines: nothing that can change under us, nothing that it needs no right to do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
MAY_WRITE = {("release.yml", "publish"): {"id-token"}, ("release.yml", "notes"): {"contents"}} | {
    ("nightly.yml", "report"): {"contents", "pull-requests"}
}
NAMES = [path.name for path in WORKFLOWS]


def workflow(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))
    return found


def steps(name: str) -> list[dict[str, Any]]:
    return [step for job in workflow(name)["jobs"].values() for step in job["steps"]]


def targets() -> set[str]:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z][a-z-]*):", text, re.M))


def test_there_is_one_for_each_kind_of_check() -> None:
    assert {"check.yml", "conformance.yml", "minimum.yml", "browser.yml", "nightly.yml", "release.yml"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_actions_are_named_by_the_hash_of_a_commit_with_their_version_beside_it(name: str) -> None:
    text = (ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8")
    used = re.findall(r"uses: (.*)", text)
    assert used
    assert [one for one in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one)] == []


@pytest.mark.parametrize("name", NAMES)
def test_jobs_may_only_read_but_for_those_that_publish(name: str) -> None:
    found = workflow(name)
    assert found["permissions"] == {"contents": "read"}
    for title, job in found["jobs"].items():
        writes = {right for right, level in job.get("permissions", {}).items() if level == "write"}
        assert writes == MAY_WRITE.get((name, title), set()), title
        assert job["timeout-minutes"] <= 360


@pytest.mark.parametrize("name", NAMES)
def test_what_is_run_is_a_target_of_make(name: str) -> None:
    called = [word for step in steps(name) for word in re.findall(r"\bmake ([^\s|]+)", step.get("run", ""))]
    known = {word for word in called if "$" not in word}
    assert known <= targets(), known - targets()
    if name != "release.yml":
        assert called


def test_the_matrix_has_every_python_and_both_systems() -> None:
    matrix = workflow("check.yml")["jobs"]["package"]["strategy"]["matrix"]
    assert matrix["python"] == ["3.11", "3.12", "3.13"] and matrix["os"] == ["ubuntu-latest", "macos-latest"]
    assert set(matrix["target"]) == {"test-schema", "test-train", "test-analyze"} <= targets()
    packages = workflow("minimum.yml")["jobs"]["minimum"]["strategy"]["matrix"]["package"]
    assert {f"minimum-{package}" for package in packages} <= targets()


def test_what_is_published_was_checked_and_is_of_the_package_of_the_tag_alone() -> None:
    jobs = workflow("release.yml")["jobs"]
    assert set(jobs["publish"]["needs"]) == {"build", "check"}
    archives = [step for step in jobs["build"]["steps"] if step.get("with", {}).get("name") == "archives"]
    assert [step["with"]["path"] for step in archives] == ["dist/${{ steps.package.outputs.name }}/"]
    assert "secrets." not in (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")
