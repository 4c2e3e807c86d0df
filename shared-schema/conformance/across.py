"""Build the three wheels, install each in a fresh environment of its own, test them alone and between them.

Neither tool's environment has the other tool, and only that of pico-train has torch. What `tests/` holds then runs with
the interpreters in PICO_SCHEMA_PYTHON, PICO_TRAIN_PYTHON and PICO_ANALYZE_PYTHON; the environment that runs this script
only drives.

With `--released` each package that has a tag (`pico-train-v2.1.0`) is put in, one after the other, as it was last
released, built from that tag, and `between/` runs. Where pip would not install it with the others as they are here,
because a range forbids it, that is said.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
from collections.abc import Iterable, Sequence
from pathlib import Path

from packaging.version import Version

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PACKAGES = ("shared-schema", "pico-train", "pico-analyze")
DISTRIBUTIONS = {"pico-schema": "shared-schema", "pico-train": "pico-train", "pico-analyze": "pico-analyze"}
ENVIRONMENTS = {"schema": ["pico-schema"], "train": ["pico-train"], "analyze": ["pico-analyze"]}


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


def last_release(package: str) -> str | None:
    """The tag of a package's last release; None where it has none."""
    done = subprocess.run(
        ["git", "-C", ROOT, "tag", "--list", f"{package}-v*"], capture_output=True, text=True, check=False
    )
    tags = sorted(done.stdout.split(), key=lambda tag: Version(tag.removeprefix(f"{package}-v")))
    return tags[-1] if tags else None


def released_wheel(package: str, tag: str, wheels: Path) -> Path:
    """The wheel of a package, built from its folder as it was at a tag."""
    shutil.rmtree(wheels, ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch) / "sources.tar"
        call("git", "-C", ROOT, "archive", "--output", archive, tag, DISTRIBUTIONS[package])
        with tarfile.open(archive) as sources:
            sources.extractall(scratch, filter="data")
        source = Path(scratch) / DISTRIBUTIONS[package]
        call(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", wheels, source)
    (wheel,) = wheels.iterdir()
    return wheel


def between_releases(base: Path, pythons: dict[str, str], arguments: list[str]) -> None:
    """Put each package in as it was last released, run `between/`, and put the one of here back."""
    here = {package: next((base / "wheels").glob(f"{package.replace('-', '_')}-*.whl")) for package in DISTRIBUTIONS}
    for package in DISTRIBUTIONS:
        tag = last_release(package)
        if tag is None:
            print(f"{package}: no release to compare with: no tag {package}-v…", flush=True)
            continue
        wheel = released_wheel(package, tag, base / "released")
        into = [python for name, python in pythons.items() if package == "pico-schema" or package[5:].upper() in name]
        swap = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--force-reinstall")
        call_all([python, *swap, wheel] for python in into)
        checked = [subprocess.run([python, "-m", "pip", "check"], capture_output=True, text=True) for python in into]
        if unmet := [
            line for done in checked for line in done.stdout.splitlines() if "pico-" in line and done.returncode
        ]:
            print(f"{tag}: not with the others as they are here, by their ranges: {'; '.join(unmet)}", flush=True)
        else:
            print(f"{tag}: with the others as they are here", flush=True)
            call(sys.executable, "-m", "pytest", "between", *arguments, **pythons)
        call_all([python, *swap, here[package]] for python in into)


def main() -> None:
    """Build, install, test."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--constraints", type=Path, required=True)
    parser.add_argument("--environments", type=Path, default=ROOT / ".envs" / "conformance")
    parser.add_argument("--released", action="store_true", help="each package as it was last released with the others")
    parser.add_argument("pytest", nargs="*", help="arguments for pytest")
    options = parser.parse_args()
    if options.released and not any(map(last_release, DISTRIBUTIONS)):
        print("no package has a tag of a release (such as pico-train-v2.0.0): there is nothing to compare with")
        return
    base = options.environments.resolve()
    wheels = base / "wheels"
    build(wheels)
    constraints = options.constraints.resolve()
    call_all([installation(base / name, packages, wheels, constraints) for name, packages in ENVIRONMENTS.items()])
    pythons = {f"PICO_{name.upper()}_PYTHON": str(interpreter(base / name)) for name in ENVIRONMENTS}
    os.chdir(HERE)
    if options.released:
        between_releases(base, pythons, options.pytest)
        return
    call(sys.executable, "-m", "pytest", "-n", "4", "--dist", "loadgroup", *options.pytest, **pythons)


if __name__ == "__main__":
    main()
