"""Build the three wheels, install pico-train in one fresh environment and pico-analyze in another, test between them.

Neither environment has the other package, and the second has no torch. What `tests/` holds then runs with the two
interpreters in PICO_TRAIN_PYTHON and PICO_ANALYZE_PYTHON; the environment that runs this script only drives.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterable, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PACKAGES = ("shared-schema", "pico-train", "pico-analyze")
ENVIRONMENTS = {"train": ["pico-train"], "analyze": ["pico-analyze"]}


def call(*command: str | Path, **environment: str) -> None:
    """Run a command; end with its exit code where it fails."""
    print("+", *command, flush=True)
    done = subprocess.run([str(word) for word in command], env=os.environ | environment, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def call_all(commands: Iterable[Sequence[str | Path]]) -> None:
    """Run commands side by side; end with an exit code where one of them fails."""
    begun = []
    for command in commands:
        print("+", *command, flush=True)
        begun.append(subprocess.Popen([str(word) for word in command]))
    if failed := [code for process in begun if (code := process.wait())]:
        sys.exit(failed[0])


def build(wheels: Path) -> None:
    """Wheels of the three packages, made anew."""
    shutil.rmtree(wheels, ignore_errors=True)
    how = (sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", wheels)
    call_all((*how, ROOT / package) for package in PACKAGES)


def installation(directory: Path, packages: list[str], wheels: Path, constraints: Path) -> list[str | Path]:
    """The command that fills a fresh environment with these packages, their dependencies and nothing else."""
    shutil.rmtree(directory, ignore_errors=True)
    venv.create(directory, with_pip=True)
    # What is imported is compiled then: a small part of torch.
    return [interpreter(directory), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile",
            "--find-links", wheels, "--constraint", constraints, *packages]  # fmt: skip


def interpreter(directory: Path) -> Path:
    """The Python of an environment."""
    return directory / "bin" / "python"


def main() -> None:
    """Build, install, test."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--constraints", type=Path, required=True)
    parser.add_argument("--environments", type=Path, default=ROOT / ".envs" / "conformance")
    parser.add_argument("pytest", nargs="*", help="arguments for pytest")
    options = parser.parse_args()
    base = options.environments.resolve()
    wheels = base / "wheels"
    build(wheels)
    constraints = options.constraints.resolve()
    call_all([installation(base / name, packages, wheels, constraints) for name, packages in ENVIRONMENTS.items()])
    pythons = {f"PICO_{name.upper()}_PYTHON": str(interpreter(base / name)) for name in ENVIRONMENTS}
    os.chdir(HERE)
    call(sys.executable, "-m", "pytest", "-n", "4", "--dist", "loadgroup", *options.pytest, **pythons)


if __name__ == "__main__":
    main()
