"""A release builds one package and says what stops it: tried in a copy of the repository's sources."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = {"pico-schema": "shared-schema", "pico-train": "pico-train", "pico-analyze": "pico-analyze"}
COPIED = (".ci", *PACKAGES.values())
_LEFT = shutil.ignore_patterns(
    "node_modules", "golden", "conformance", "docs", "benchmarks", "__pycache__", ".*_cache", ".hypothesis"
)

pytestmark = pytest.mark.xdist_group("release")


def git(repository: Path, *words: str) -> None:
    who = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", repository, *who, *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages as they are, pico-schema released as it is, pico-analyze to become 9.1.0."""
    root = tmp_path_factory.mktemp("repository")
    for name in COPIED:
        shutil.copytree(ROOT / name, root / name, ignore=_LEFT)
    git(root, "init", "--quiet")
    bump(root, "pico-schema", "9.0.0")
    for folder in ("pico-train", "pico-analyze"):
        project = root / folder / "pyproject.toml"
        text = project.read_text()
        line = next(line for line in text.splitlines() if "pico-schema[yaml]" in line)
        project.write_text(text.replace(line, '  "pico-schema[yaml]>=9.0,<10",'))
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "all")
    git(root, "tag", "pico-schema-v9.0.0")
    bump(root, "pico-analyze", "9.1.0")
    git(root, "commit", "--quiet", "--all", "--message", "pico-analyze 9.1.0")
    return root


def bump(root: Path, package: str, version: str) -> None:
    folder = root / PACKAGES[package]
    version_file = folder / "src" / package.replace("-", "_") / "version.py"
    before = version_file.read_text().split('"')[-2]
    version_file.write_text(version_file.read_text().replace(f'"{before}"', f'"{version}"'))
    sections = [
        "# Changelog",
        "## Unreleased",
        f"## {version} (2031-01-02)",
        f"- What {version} brings.",
        f"## {before}",
    ]
    (folder / "CHANGELOG.md").write_text("\n\n".join([*sections, "Old.\n"]))


def run(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, root / ".ci" / "release.py", *words, "--out", root / "dist"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def dist(repository: Path) -> Iterator[Path]:
    yield repository / "dist"
    shutil.rmtree(repository / "dist", ignore_errors=True)


def test_bumping_one_package_and_releasing_it_builds_that_package_alone(repository: Path, dist: Path) -> None:
    done = run(repository, "pico-analyze", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "nothing would stop this release"
    stem = "pico_analyze-9.1.0"
    built = sorted(str(path.relative_to(dist)) for path in dist.rglob("*") if path.is_file())
    assert built == ["pico-analyze.md", f"pico-analyze/{stem}-py3-none-any.whl", f"pico-analyze/{stem}.tar.gz"]
    assert (dist / "pico-analyze.md").read_text() == "- What 9.1.0 brings.\n"
    with zipfile.ZipFile(dist / "pico-analyze" / f"{stem}-py3-none-any.whl") as wheel:
        top = {name.split("/")[0] for name in wheel.namelist()}
    assert top == {"pico_analyze", f"{stem}.dist-info"}
    with tarfile.open(dist / "pico-analyze" / f"{stem}.tar.gz") as archive:
        assert not [name for name in archive.getnames() if "pico_train/" in name or "pico_schema/" in name]


def test_a_tag_of_this_version_is_what_a_release_needs(repository: Path, dist: Path) -> None:
    done = run(repository, "pico-analyze", "--tag", "pico-analyze-v9.1.0")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in dist.iterdir()) == ["pico-analyze", "pico-analyze.md"]


@pytest.mark.parametrize("tag", ["pico-analyze-v9.2.0", "pico-train-v9.1.0", "v9.1.0"])
def test_a_tag_of_another_version_or_package_is_refused(repository: Path, tag: str) -> None:
    done = run(repository, "pico-analyze", "--tag", tag)
    assert done.returncode == 1
    expected = f"the tag is {tag}, and version.py says 9.1.0: the tag of this release is pico-analyze-v9.1.0"
    assert done.stderr == f"error: pico-analyze: {expected}\n"
    assert not list((repository / "dist").iterdir())


def test_the_contract_comes_first_where_its_version_rose(repository: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--no-tags", repository, clone], check=True)
    done = run(clone, "pico-analyze", "--tag", "pico-analyze-v9.1.0")
    assert done.returncode == 1
    assert "pico-schema[yaml]<10,>=9.0 is needed and not released: tag pico-schema-v9.0.0 first" in done.stderr


def test_changes_that_the_notes_would_not_name_are_refused(repository: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", repository, clone], check=True)
    log = clone / "pico-analyze" / "CHANGELOG.md"
    log.write_text(log.read_text().replace("## Unreleased\n", "## Unreleased\n\n- More.\n"))
    done = run(clone, "pico-analyze", "--tag", "pico-analyze-v9.1.0")
    assert "CHANGELOG.md has changes under Unreleased that 9.1.0 would not name: raise the version" in done.stderr
    log.write_text("# Changelog\n\n## Unreleased\n\n- More.\n")
    done = run(clone, "pico-analyze", "--tag", "pico-analyze-v9.1.0")
    assert "CHANGELOG.md has no section '## 9.1.0'" in done.stderr


def test_what_was_released_is_not_released_again(repository: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", repository, clone], check=True)
    git(clone, "tag", "pico-analyze-v9.1.0")
    done = run(clone, "pico-analyze", "--dry-run")
    assert "pico-analyze 9.1.0 has been released: raise the version" in done.stderr
