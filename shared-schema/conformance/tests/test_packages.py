"""What a user installs: archives that PyPI takes, whole, and pages on which every link leads somewhere."""

from __future__ import annotations

import email
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[3]
FOLDERS = {"pico-schema": "shared-schema", "pico-train": "pico-train", "pico-analyze": "pico-analyze"}

pytestmark = pytest.mark.xdist_group("packages")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Source archives, and the wheels that are made from them."""
    out = tmp_path_factory.mktemp("dist")
    for folder in FOLDERS.values():
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT / folder]
        subprocess.run(command, check=True, capture_output=True)
    return out


def wheel_of(built: Path, package: str) -> Path:
    (found,) = built.glob(f"{package.replace('-', '_')}-*.whl")
    return found


def metadata(built: Path, package: str) -> Message:
    with zipfile.ZipFile(wheel_of(built, package)) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(wheel.read(name))


def links(text: str) -> list[str]:
    """Where links and pictures of a Markdown text lead, as a parser of CommonMark sees them."""
    found: list[str] = []
    for token in MarkdownIt().enable("table").parse(text):
        for child in token.children or ():
            found += [str(child.attrs[key]) for key in ("href", "src") if key in child.attrs]
    return found + re.findall(r"""<(?:a|img)\b[^>]*?(?:href|src)=["']([^"']+)""", text)


@pytest.mark.parametrize("package", FOLDERS)
def test_every_link_of_the_page_is_absolute_and_those_into_the_repository_lead_to_a_file(
    built: Path, package: str
) -> None:
    about = metadata(built, package)
    text = about.get_payload(decode=True)
    assert isinstance(text, bytes)
    page, written = text.decode(), (ROOT / FOLDERS[package] / "README.md").read_text(encoding="utf-8")
    found = links(page)
    assert len(found) == len(links(written)), "no link was lost"
    assert [link for link in found if not link.startswith("https://")] == []
    into = re.compile(rf"https://github\.com/pico-lm/pico/(?:blob|tree)/(?:main|{package}-v{about['Version']})/([^#]*)")
    for link in found:
        if (match := into.match(link)) is not None:
            assert (ROOT / match[1]).exists(), link


@pytest.mark.parametrize("package", FOLDERS)
def test_pypi_would_take_them_and_show_their_page(built: Path, package: str) -> None:
    files = sorted(built.glob(f"{package.replace('-', '_')}-*"))
    assert len(files) == 2
    command = [sys.executable, "-m", "twine", "check", "--strict", *files]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout


@pytest.mark.parametrize("package", FOLDERS)
def test_a_wheel_holds_every_file_of_the_package_and_nothing_else(built: Path, package: str) -> None:
    source = ROOT / FOLDERS[package] / "src"
    listed = subprocess.run(
        ["git", "-C", source, "ls-files", "--cached", "--others", "--exclude-standard", "."],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("not in a repository: what belongs to the package is not known")
    expected = {name for name in listed.stdout.splitlines() if (source / name).is_file()}
    with zipfile.ZipFile(wheel_of(built, package)) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        licences = [name for name in wheel.namelist() if name.endswith(".dist-info/licenses/LICENSE")]
        (text,) = (wheel.read(name) for name in licences)
    assert names == expected
    assert f"{package.replace('-', '_')}/py.typed" in names
    assert text == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize("package", FOLDERS)
def test_the_metadata_says_what_it_is(built: Path, package: str) -> None:
    about = metadata(built, package)
    assert about["License-Expression"] == "Apache-2.0"
    assert about["Requires-Python"] == ">=3.11"
    assert about["Description-Content-Type"] == "text/markdown"
    assert {line.split(",")[0] for line in about.get_all("Project-URL", [])} == {
        "Homepage", "Documentation", "Source", "Issues", "Changelog",
    }  # fmt: skip
    assert "Typing :: Typed" in about.get_all("Classifier", [])


@pytest.mark.parametrize("package", FOLDERS)
def test_a_source_archive_can_be_built_and_tested(built: Path, package: str) -> None:
    (path,) = built.glob(f"{package.replace('-', '_')}-*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "PKG-INFO"} <= names
    assert any(name.startswith("tests/test_") for name in names)


@pytest.mark.parametrize("package", FOLDERS)
def test_every_requirement_says_from_which_version_on(package: str) -> None:
    project = tomllib.loads((ROOT / FOLDERS[package] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = [*project["dependencies"], *(text for extra in project["optional-dependencies"].values() for text in extra)]
    without = [
        text
        for text in texts
        if not any(one.operator == ">=" for one in Requirement(text).specifier) and Requirement(text).name != package
    ]
    assert without == []
