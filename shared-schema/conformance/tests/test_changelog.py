"""A change of the public surface without a line in the CHANGELOG is noticed: tried in a repository of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FOLDERS = ("shared-schema", "pico-train", "pico-analyze")
SURFACE = {"names": ["compute"], "commands": {"run": ["--out"]}, "exit codes": {"DataError": 3}}


def git(repository: Path, *words: str) -> None:
    who = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", repository, *who, *words], check=True, capture_output=True)


def write(repository: Path, surface: object, log: str, folder: str = "pico-analyze") -> None:
    (repository / folder / "tests").mkdir(parents=True, exist_ok=True)
    (repository / folder / "tests" / "surface.json").write_text(json.dumps(surface))
    (repository / folder / "CHANGELOG.md").write_text(f"# Changelog\n\n{log}\n")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet", "--initial-branch", "main")
    for folder in FOLDERS:
        write(tmp_path, SURFACE, "## Unreleased\n\n- One thing.\n\n## 1.0.0\n\nFirst.", folder)
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message", "one")
    return tmp_path


def check(repository: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / ".ci" / "changelog.py", "--root", repository, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_nothing_changed_and_nothing_is_asked(repository: Path) -> None:
    assert check(repository).returncode == 0


def test_a_new_option_needs_a_line_and_is_named(repository: Path) -> None:
    changed = SURFACE | {"commands": {"run": ["--out", "--shard"]}, "exit codes": {"DataError": 4}}
    write(repository, changed, "## Unreleased\n\n- One thing.\n\n## 1.0.0\n\nFirst.")
    done = check(repository)
    assert done.returncode == 1
    assert "pico-analyze/CHANGELOG.md: the public surface has changed" in done.stderr
    assert "  + commands › run › --shard" in done.stderr.splitlines()
    assert "    exit codes › DataError: 3 → 4" in done.stderr.splitlines()
    write(repository, changed, "## Unreleased\n\n- One thing.\n- `--shard`.\n\n## 1.0.0\n\nFirst.")
    assert check(repository).returncode == 0


def test_a_line_under_another_release_is_none(repository: Path) -> None:
    write(repository, {}, "## Unreleased\n\n- One thing.\n\n## 1.0.0\n\nFirst. And more.")
    assert check(repository).returncode == 1


def test_what_is_not_yet_released_counts_as_such(repository: Path) -> None:
    write(repository, {}, "## 1.1.0 (not yet released)\n\n- One thing, and another.\n\n## 1.0.0\n\nFirst.")
    assert check(repository).returncode == 0


def test_since_the_last_release_there_is_a_line_even_where_this_branch_changed_nothing(repository: Path) -> None:
    git(repository, "tag", "pico-analyze-v1.0.0")
    write(repository, SURFACE | {"names": ["compute", "plot"]}, "## Unreleased\n\n- `plot`.\n\n## 1.0.0\n\nFirst.")
    git(repository, "commit", "--quiet", "--all", "--message", "two")
    assert check(repository).returncode == 0
    write(repository, SURFACE | {"names": ["compute", "plot"]}, "## Unreleased\n\n## 1.0.0\n\nFirst.")
    git(repository, "commit", "--quiet", "--all", "--message", "three")
    done = check(repository)
    assert done.returncode == 1 and "since pico-analyze-v1" in done.stderr


def test_a_release_renames_its_section_and_needs_no_other(repository: Path) -> None:
    changed = SURFACE | {"names": []}
    write(repository, changed, "## Unreleased\n\n## 1.1.0 (2031-01-02)\n\n- No `compute`.\n\n## 1.0.0\n\nFirst.")
    assert check(repository).returncode == 0


def test_a_base_that_is_not_there_is_an_error(repository: Path) -> None:
    done = check(repository, "--base", "nowhere")
    assert done.returncode == 1 and "there is no revision nowhere" in done.stdout
