"""What the repository's own tools say, whatever lies about in its root."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from datetime import date
from pathlib import Path

import pytest

from pico_schema import __version__

ROOT = Path(__file__).resolve().parents[3]
INTERPRETER = ROOT / ".ci" / "interpreter"


def test_a_folder_in_the_root_is_no_package_of_ours(tmp_path: Path) -> None:
    """`runs` after `make demo`, `wandb` after a run with it: imports are sorted as before."""
    shutil.copy(ROOT / ".ruff.toml", tmp_path)
    (tmp_path / "one.py").write_text(
        '"""One."""\n\nimport runs\nimport wandb\n\nimport pico_schema\n\nx = runs, wandb, pico_schema\n'
    )
    ruff = [sys.executable, "-m", "ruff", "check", "--no-cache", "--select", "I", "."]
    for folder in ("nothing", "runs", "analysis", "wandb", "dist"):
        (tmp_path / folder).mkdir()
        checked = subprocess.run(ruff, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, (folder, checked.stdout)


def test_the_tools_require_the_release_of_the_contract_that_they_are_written_against() -> None:
    """Its CHANGELOG begins with it, and what it adds to the one before may be in use from its first day on."""
    newest = re.search(r"^## (.*)$", (ROOT / "shared-schema" / "CHANGELOG.md").read_text(), re.M)
    assert newest is not None and newest[1].split()[0] == __version__
    minor = __version__.rpartition(".")[0]
    for tool in ("pico-train", "pico-analyze"):
        required = tomllib.loads((ROOT / tool / "pyproject.toml").read_text())["project"]["dependencies"]
        assert f"pico-schema[yaml]>={minor},<2" in required, tool


@pytest.mark.parametrize("package", ["shared-schema", "pico-train", "pico-analyze"])
def test_a_changelog_says_when_each_release_was(package: str) -> None:
    """The newest first; only the first may be one that is still to come."""
    titles = re.findall(r"^## (.*)$", (ROOT / package / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    if titles[0] == "Unreleased" or titles[0].endswith(" (not yet released)"):
        titles = titles[1:]
    dated = [re.fullmatch(r"(\d+)\.(\d+)\.(\d+) \((\d{4}-\d{2}-\d{2})\)", title) for title in titles]
    found = [(tuple(map(int, match.groups()[:3])), date.fromisoformat(match[4])) for match in dated if match]
    assert len(found) == len(titles), titles
    assert found == sorted(found, reverse=True)


def _interpreter(*words: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ if path is None else {**os.environ, "PATH": path}
    return subprocess.run(
        ["/bin/sh", INTERPRETER, *words], env=environment, capture_output=True, text=True, check=False
    )


def _executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_the_python_asked_for_is_the_one_that_is_found() -> None:
    """A path that runs is given back as it is."""
    found = _interpreter(sys.executable)
    assert (found.returncode, found.stdout.strip(), found.stderr) == (0, sys.executable, "")


def test_a_shim_that_is_not_switched_on_gives_way_to_what_it_stands_for(tmp_path: Path) -> None:
    """The newest one that pyenv has; without any, one sentence."""
    bin_folder, root = tmp_path / "bin", tmp_path / "pyenv root"
    _executable(bin_folder / "python3.12", "#!/bin/sh\necho 'pyenv: python3.12: command not found' >&2\nexit 127\n")
    _executable(bin_folder / "pyenv", f"#!/bin/sh\necho '{root}'\n")
    path = f"{bin_folder}:/usr/bin:/bin"
    assert "does not run here" in _interpreter("python3.12", path=path).stderr
    for release in ("3.12.1", "3.12.4"):
        folder = root / "versions" / release / "bin"
        _executable(folder / "python", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    found = _interpreter("python3.12", path=path)
    assert found.stdout.strip() == str(root / "versions" / "3.12.4" / "bin" / "python"), found.stderr


@pytest.mark.parametrize("wanted", ["python3.99", "/no where/python", "false"])
def test_a_python_that_does_not_run_is_one_sentence(wanted: str) -> None:
    """With what to do, and nothing on standard output."""
    found = _interpreter(wanted)
    assert found.returncode == 2
    assert found.stdout == ""
    assert found.stderr.count("\n") == 1
    assert f"'{wanted}' does not run here" in found.stderr


def test_an_environment_of_another_version_is_not_taken_for_what_was_asked(tmp_path: Path) -> None:
    """Both versions are named."""
    other = "#!/bin/sh\necho 3.15\n"
    _executable(tmp_path / "there" / "bin" / "python", other)
    found = _interpreter(sys.executable, str(tmp_path / "there"))
    ours = ".".join(map(str, sys.version_info[:2]))
    assert (found.returncode, found.stdout) == (2, "")
    assert "an environment of Python 3.15" in found.stderr
    assert f"is {ours}" in found.stderr
    old = _executable(tmp_path / "old", '#!/bin/sh\ncase "$2" in *exit*) exit 1;; *) echo 3.9;; esac\n')
    assert "Python 3.11 or newer is needed" in _interpreter(str(old)).stderr
