"""The lowest versions that a package's metadata declares, as constraints of pip.

    python .ci/lowest.py pico-analyze [EXTRA …] > lowest.txt

One line for each requirement of the package, of the extras that are named, and of pico-schema where it stands on it:
`numpy>=1.26` becomes `numpy==1.26`. A bound that no release meets is no bound: pip says so. torch is left out, whose
lowest release has no build for processors alone on PyPI: `.ci/constraints.txt` says which one is taken.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
OURS = {"pico-schema": "shared-schema", "pico-train": "pico-train", "pico-analyze": "pico-analyze"}
LEFT_OUT = {"torch"}


def requirements(folder: str, extras: frozenset[str]) -> Iterator[Requirement]:
    """What the package in a folder of the repository requires, and what its own packages require in turn."""
    project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = [*project["dependencies"], *(text for extra in extras for text in project["optional-dependencies"][extra])]
    for text in texts:
        found = Requirement(text)
        name = canonicalize_name(found.name)
        if name in OURS:
            yield from requirements(OURS[name], frozenset(found.extras))
        else:
            yield found


def lowest(requirement: Requirement) -> str:
    """The version of its `>=`.

    Raises:
        ValueError: it has none.
    """
    for one in requirement.specifier:
        if one.operator in (">=", "=="):
            return one.version
    raise ValueError(f"{requirement}: it has no lower bound")


def main() -> None:
    """Print the constraints."""
    package, *extras = sys.argv[1:]
    found = {
        canonicalize_name(one.name): lowest(one)
        for one in requirements(OURS.get(package, package), frozenset(extras))
        if canonicalize_name(one.name) not in LEFT_OUT
    }
    for name, version in sorted(found.items()):
        sys.stdout.write(f"{name}=={version}\n")


if __name__ == "__main__":
    main()
