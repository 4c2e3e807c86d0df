"""What the distributions of an environment weigh, largest first.

    python .ci/sizes.py .envs/conformance/analyze [--at-least MB]

Sizes are sums of the files that each distribution's RECORD names, in MB of 10⁶ bytes: what pip installed, with what it
compiled and, in the second column, without.
"""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

NOT_COUNTED = {"pip", "setuptools"}
"""What every environment has, whatever is installed into it."""


def weight(distribution: Distribution) -> tuple[int, int]:
    """Bytes of a distribution's files, and of those that are not compiled from others."""
    files = [(file, Path(str(distribution.locate_file(file)))) for file in distribution.files or ()]
    sizes = [(file.suffix, path.stat().st_size) for file, path in files if path.is_file()]
    return sum(size for _, size in sizes), sum(size for suffix, size in sizes if suffix != ".pyc")


def weights(environment: Path) -> dict[str, tuple[int, int]]:
    """Name → bytes, of the distributions of an environment."""
    packages = [str(path) for path in environment.glob("lib/python*/site-packages")]
    return {
        found.metadata["Name"]: weight(found)
        for found in distributions(path=packages)
        if found.metadata["Name"] not in NOT_COUNTED
    }


def main() -> int:
    """Print the table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environment", type=Path)
    parser.add_argument("--at-least", type=float, default=5, help="MB of what has a line of its own")
    options = parser.parse_args()
    found = sorted(weights(options.environment).items(), key=lambda item: -item[1][0])
    if not found:
        sys.stderr.write(f"error: {options.environment}: no environment of Python with anything installed in it\n")
        return 2
    rest = [sizes for _, sizes in found if sizes[0] < options.at_least * 1e6]
    lines = [(name, sizes) for name, sizes in found if sizes[0] >= options.at_least * 1e6]
    lines.append((f"{len(rest)} others", (sum(size for size, _ in rest), sum(size for _, size in rest))))
    lines.append(("all", (sum(size for _, (size, _) in found), sum(size for _, (_, size) in found))))
    for name, (whole, bare) in lines:
        sys.stdout.write(f"{name:24} {whole / 1e6:8.1f} {bare / 1e6:8.1f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
