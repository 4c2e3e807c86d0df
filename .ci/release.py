"""Build one package for release, check what was built, and write its notes: everything but the upload.

    python .ci/release.py pico-analyze --dry-run
    python .ci/release.py pico-analyze --tag pico-analyze-v2.1.0

Archives come to `dist/PACKAGE`, the notes (the CHANGELOG's section of this version) to `dist/PACKAGE.md`. What would
make the release wrong is refused: a tag of another version, a CHANGELOG without the section, a pico-schema that is
needed and not released. `--dry-run` names the same as warnings, takes Unreleased for the notes where the version has no
section, and fails only where what was built is wrong.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from changelogs import UNRELEASED, sections
from packaging.requirements import Requirement
from packaging.version import Version

FOLDERS = {"pico-schema": "shared-schema", "pico-train": "pico-train", "pico-analyze": "pico-analyze"}
_VERSION = re.compile(r'^__version__ = "([^"]+)"$', re.M)


class ReleaseError(Exception):
    """What stops a release, in a sentence."""


def version_of(root: Path, package: str) -> str:
    """The version that the package's own file says."""
    path = root / FOLDERS[package] / "src" / package.replace("-", "_") / "version.py"
    found = _VERSION.search(path.read_text(encoding="utf-8"))
    if found is None:
        raise ReleaseError(f'{path}: it has no line __version__ = "…"')
    return found[1]


def released(root: Path, package: str) -> list[Version]:
    """Versions of the package that have a tag, ascending."""
    done = subprocess.run(
        ["git", "-C", root, "tag", "--list", f"{package}-v*"], capture_output=True, text=True, check=True
    )
    return sorted(Version(tag.removeprefix(f"{package}-v")) for tag in done.stdout.split())


def problems(root: Path, package: str, tag: str | None) -> Iterator[str]:
    """What is not as a release needs it."""
    version = version_of(root, package)
    if tag is not None and tag != f"{package}-v{version}":
        yield f"the tag is {tag}, and version.py says {version}: the tag of this release is {package}-v{version}"
    log = sections((root / FOLDERS[package] / "CHANGELOG.md").read_text(encoding="utf-8"))
    if version not in log:
        yield f"CHANGELOG.md has no section '## {version}': rename '## {UNRELEASED}' to '## {version} (DATE)'"
    elif log.get(UNRELEASED):
        yield f"CHANGELOG.md has changes under {UNRELEASED} that {version} would not name: raise the version"
    if tag is None and Version(version) in released(root, package):
        yield f"{package} {version} has been released: raise the version in version.py"
    project = tomllib.loads((root / FOLDERS[package] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for one in map(Requirement, project["dependencies"]):
        if one.name in FOLDERS and not any(one.specifier.contains(known) for known in released(root, one.name)):
            needed = version_of(root, one.name)
            yield f"{one} is needed and not released: tag {one.name}-v{needed} first"


def call(*command: str | Path, **environment: str) -> str:
    """Run a command and give its output.

    Raises:
        ReleaseError: it failed; its output is shown.
    """
    done = subprocess.run(
        command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        sys.stderr.write(done.stdout)
        raise ReleaseError(f"failed: {' '.join(str(word) for word in command)}")
    return done.stdout


def build(root: Path, package: str, out: Path) -> list[Path]:
    """Source archive, and the wheel that is made from it; looked at by twine, and the wheel run.

    Raises:
        ReleaseError: one of them is not as PyPI takes it, or does not run.
    """
    version = version_of(root, package)
    shutil.rmtree(out, ignore_errors=True)
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, root / FOLDERS[package])
    files = sorted(out.iterdir())
    stem = f"{package.replace('-', '_')}-{version}"
    if [file.name for file in files] != [f"{stem}-py3-none-any.whl", f"{stem}.tar.gz"]:
        raise ReleaseError(f"built were {', '.join(file.name for file in files)}: expected wheel and archive of {stem}")
    call(sys.executable, "-m", "twine", "check", "--strict", *files)
    unpacked = out.with_name(out.name + ".unpacked")
    shutil.rmtree(unpacked, ignore_errors=True)
    try:
        pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile")
        call(sys.executable, *pip, "--no-index", "--target", unpacked, files[0])
        module = package.replace("-", "_")
        where = call(
            sys.executable, "-c", f"import {module}; print({module}.__file__)", PYTHONPATH=str(unpacked)
        ).strip()
        if not Path(where).is_relative_to(unpacked):
            raise ReleaseError(f"{module} was imported from {where} and not from the wheel")
        said = call(sys.executable, "-m", module, "--version", PYTHONPATH=str(unpacked))
        if version not in said:
            raise ReleaseError(f"python -m {module} --version says {said.strip()!r}: expected {version}")
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    return files


def release(root: Path, package: str, out: Path, *, tag: str | None, dry_run: bool) -> None:
    """Check, build, and write the notes.

    Raises:
        ReleaseError: see above.
    """
    found = list(problems(root, package, tag))
    if found and not dry_run:
        raise ReleaseError("; ".join(found))
    for problem in found:
        sys.stderr.write(f"warning: a release would be refused: {problem}\n")
    files = build(root, package, out / package)
    log = sections((root / FOLDERS[package] / "CHANGELOG.md").read_text(encoding="utf-8"))
    version = version_of(root, package)
    unnamed = log.get(UNRELEASED, "") if dry_run else ""
    notes = out / f"{package}.md"
    notes.write_text((log.get(version) or unnamed) + "\n", encoding="utf-8")
    sys.stdout.write(f"{package} {version}{', not published: this is a dry run' if dry_run else ''}\n")
    for file in [*files, notes]:
        sys.stdout.write(f"  {file} ({file.stat().st_size:,} bytes)\n")


def main() -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", choices=FOLDERS)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--tag", help="the tag that is released: PACKAGE-vVERSION")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1], help="the repository")
    parser.add_argument("--out", type=Path, default=Path("dist"))
    options = parser.parse_args()
    if not options.dry_run and options.tag is None:
        parser.error("--tag or --dry-run is needed")
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        release(
            options.root.resolve(), options.package, options.out.resolve(), tag=options.tag, dry_run=options.dry_run
        )
    except (ReleaseError, ValueError) as error:
        sys.stderr.write(f"error: {options.package}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
