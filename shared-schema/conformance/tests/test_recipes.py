"""What CONTRIBUTING says is so: its map is that of the code, and its recipes work.

All recipes are put into one copy of the packages, as a contributor would, and their tests run there in one process.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pico_conformance.command_lines import ROOT, check, commands
from pico_conformance.documents import Snippet, snippets

CONTRIBUTING = ROOT / ".github" / "CONTRIBUTING.md"
SOURCES = {"shared-schema": "pico_schema", "pico-train": "pico_train", "pico-analyze": "pico_analyze"}
RECIPES = ("metric", "component", "probe", "store", "preset", "schedule", "capture site")
_FILE = re.compile(r"# (?P<file>[\w./-]+)(?:, (?P<how>below|in place of): (?P<line>.+))?")


def apply(snippet: Snippet, root: Path) -> Path:
    """Make the change that a block is; returns the file."""
    first, _, rest = snippet.code.partition("\n")
    match = _FILE.fullmatch(first)
    assert match is not None, f"{snippet.where}: a block of a recipe begins with its file, not with {first!r}"
    file = root / match["file"]
    if match["line"] is None:
        assert not file.exists(), f"{snippet.where}: {match['file']} is there already"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(rest, encoding="utf-8")
        return file
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    places = [number for number, line in enumerate(lines) if line.strip() == match["line"].strip()]
    assert len(places) == 1, f"{snippet.where}: {len(places)} lines of {match['file']} are {match['line']!r}"
    lines[places[0]] = (lines[places[0]] if match["how"] == "below" else "") + rest
    file.write_text("".join(lines), encoding="utf-8")
    return file


def copy(root: Path) -> None:
    """The packages' code, and what PLUGINS.md shows; no tests, so that only those of the recipes run."""
    for folder, package in SOURCES.items():
        ignored = shutil.ignore_patterns("__pycache__", "assets")
        shutil.copytree(ROOT / folder / "src" / package, root / folder / "src" / package, ignore=ignored)
        shutil.copy(ROOT / folder / "pyproject.toml", root / folder)
    shutil.copytree(ROOT / "pico-analyze" / "tests" / "plugin", root / "pico-analyze" / "tests" / "plugin")


def announce(root: Path) -> None:
    """Entry points as an installation would write them, of the copy's pyproject.toml."""
    project = tomllib.loads((root / "pico-analyze" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    folder = root / "pico-analyze" / "src" / "pico_analyze-0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: pico-analyze\nVersion: 0\n", encoding="utf-8")
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (folder / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def recipe_blocks() -> list[Snippet]:
    """The blocks below «How to add something», in order."""
    text = CONTRIBUTING.read_text(encoding="utf-8")
    first = text[: text.index("## How to add something")].count("\n")
    return [snippet for snippet in snippets(CONTRIBUTING) if snippet.line > first]


def test_there_is_a_recipe_for_each_of_the_things_that_are_added() -> None:
    titles = re.findall(r"^### An? (.+)$", CONTRIBUTING.read_text(encoding="utf-8"), re.M)
    assert tuple(titles) == RECIPES


@pytest.mark.xdist_group("documents")
def test_every_recipe_works(tmp_path: Path) -> None:
    copy(tmp_path)
    tests = []
    for snippet in recipe_blocks():
        if snippet.language == "sh":
            for words in commands(snippet.code):
                assert words[0] == "cp" and len(words) == 3, snippet.where
                shutil.copy(tmp_path / words[1], tmp_path / words[2])
            continue
        file = apply(snippet, tmp_path)
        if "def test_" in snippet.code:
            tests.append(file)
    assert len(tests) == len(RECIPES)
    announce(tmp_path)
    path = os.pathsep.join(str(tmp_path / folder / "src") for folder in SOURCES)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-o",
            "addopts=",
            "-p",
            "no:cacheprovider",
            "--import-mode=importlib",
            *map(str, tests),
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(rf"\b{len(tests)} passed", done.stdout), done.stdout


def test_its_other_commands_are_some() -> None:
    recipes = {snippet.line for snippet in recipe_blocks()}
    others = [snippet for snippet in snippets(CONTRIBUTING) if snippet.line not in recipes]
    checked = [
        words for snippet in others for words in commands(snippet.code) if words[0] == "make" or "python" in words[0]
    ]
    for words in checked:
        if words[0] == "make":
            check(words)
        else:
            assert all((ROOT / "pico-analyze" / word).exists() for word in words if word.startswith("tests/")), words
    assert ["make", "install"] in checked


def test_the_map_is_that_of_the_code() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import house; print(house.DOCUMENT); print(house.house())"],
        cwd=ROOT / "docs" / "building",
        capture_output=True,
        text=True,
        check=True,
    )
    document, _, text = done.stdout.partition("\n")
    assert Path(document) == CONTRIBUTING
    assert text.strip() in CONTRIBUTING.read_text(encoding="utf-8"), "run `make reference`"


@pytest.mark.parametrize(
    ("first", "message"),
    [
        ("x = 1", "begins with its file"),
        ("# there.py", "is there already"),
        ("# there.py, below: c = 3", "0 lines of there.py"),
        ("# there.py, below: a = 1", "2 lines of there.py"),
    ],
)
def test_a_recipe_that_no_longer_fits_is_told_of(tmp_path: Path, first: str, message: str) -> None:
    (tmp_path / "there.py").write_text("a = 1\nb = 2\na = 1\n")
    with pytest.raises(AssertionError, match=message):
        apply(Snippet(tmp_path / "page.md", 1, "python", f"{first}\nd = 4\n"), tmp_path)
