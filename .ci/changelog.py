"""A change of a package's public surface needs a line in its CHANGELOG.

    python .ci/changelog.py [--base REVISION]

`tests/surface.json` of each package is compared with that of a revision: without `--base` with that of the last commit
which this branch shares with main, or with the last commit. Where it changed, the part of CHANGELOG.md that is not
released yet must have changed too, and against the package's last release it must not be empty.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from changelogs import UNRELEASED, sections
from release import FOLDERS, released

SURFACE, LOG = "tests/surface.json", "CHANGELOG.md"


def git(root: Path, *words: str) -> str | None:
    """What git says, or None where it fails."""
    done = subprocess.run(["git", "-C", root, *words], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None


def base_of(root: Path) -> str | None:
    """The commit that changes are counted from; None outside a repository."""
    shared = git(root, "merge-base", "HEAD", "origin/main") or git(root, "merge-base", "HEAD", "main")
    return shared.strip() if shared else "HEAD" if git(root, "rev-parse", "HEAD") else None


def _short(revision: str) -> str:
    return revision[:12] if len(revision) == 40 else revision


def changes(before: Any, after: Any, where: str = "") -> Iterator[str]:
    """What differs between two values of JSON, one line a difference."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            place = f"{where} › {key}" if where else key
            if key not in after:
                yield f"- {place}"
            elif key not in before:
                yield f"+ {place}"
            else:
                yield from changes(before[key], after[key], place)
    elif isinstance(before, list) and isinstance(after, list):
        yield from (f"- {where} › {one}" for one in before if one not in after)
        yield from (f"+ {where} › {one}" for one in after if one not in before)
        if sorted(map(str, before)) == sorted(map(str, after)) and before != after:
            yield f"  {where}: the order"
    elif before != after:
        yield f"  {where}: {before} → {after}"


def unreleased(text: str) -> str:
    """The part that is not released yet."""
    return sections(text).get(UNRELEASED, "")


def check(root: Path, package: str, base: str) -> list[str]:
    """What is wrong with a package's CHANGELOG, with the changes that it should name."""
    folder = root / FOLDERS[package]
    after, log = json.loads((folder / SURFACE).read_text(encoding="utf-8")), (folder / LOG).read_text(encoding="utf-8")
    bases = [base, *(f"{package}-v{version}" for version in released(root, package)[-1:])]
    for one in bases:
        written = git(root, "show", f"{one}:{FOLDERS[package]}/{SURFACE}")
        if written is None:
            continue  # there was none
        found = list(changes(json.loads(written), after))
        former = unreleased(git(root, "show", f"{one}:{FOLDERS[package]}/{LOG}") or "")
        current = unreleased(log)
        released_since = len(sections(log)) > len(sections(git(root, "show", f"{one}:{FOLDERS[package]}/{LOG}") or ""))
        if found and not released_since and (not current or current == former):
            return [
                f"{FOLDERS[package]}/{LOG}: the public surface has changed since {_short(one)}, and '## {UNRELEASED}'"
                " does not say so: add a line in the words of its users",
                *(f"  {line}" for line in found[:20]),
                *([f"  … and {len(found) - 20} more"] if len(found) > 20 else []),
            ]
    return []


def main() -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", help="revision to compare with")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1], help="the repository")
    options = parser.parse_args()
    given = None if set(options.base or "0") == {"0"} else options.base  # a branch's first push: all zeros
    base = given or base_of(options.root)
    if base is None or git(options.root, "rev-parse", "--verify", "--quiet", f"{base}^{{commit}}") is None:
        why = f"there is no revision {base}" if base else "this is no git repository"
        sys.stdout.write(f"changelogs: not checked: {why}\n")
        return 0 if given is None else 1
    try:
        wrong = [line for package in FOLDERS for line in check(options.root, package, base)]
    except ValueError as error:
        wrong = [f"{LOG}: {error}"]
    for line in wrong:
        sys.stderr.write(line + "\n")
    if not wrong:
        sys.stdout.write(f"changelogs: every change of a public surface since {_short(base)} is told\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
