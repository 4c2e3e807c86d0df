"""The environments that `across.py` makes hold one tool each. Not part of `make test`, which has one environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
AT_MOST_MB = 540
"""518 on Linux; less on macOS, whose wheels are smaller."""


def missing(python: str, names: list[str]) -> list[str]:
    """Those of the modules that an interpreter cannot find."""
    code = f"import importlib.util as u; print(*[name for name in {names} if u.find_spec(name) is None])"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize(
    ("variable", "has", "lacks"),
    [
        ("PICO_SCHEMA_PYTHON", ["pico_schema", "pydantic"], ["pico_train", "pico_analyze", "numpy", "torch", "yaml"]),
        ("PICO_TRAIN_PYTHON", ["pico_schema", "pico_train", "torch"], ["pico_analyze", "scipy", "matplotlib"]),
        (
            "PICO_ANALYZE_PYTHON",
            ["pico_schema", "pico_analyze"],
            ["pico_train", "torch", "lightning_fabric", "datasets", "transformers"],
        ),
    ],
)
def test_an_environment_has_its_own_tool_only(variable: str, has: list[str], lacks: list[str]) -> None:
    python = os.environ[variable]
    assert missing(python, has) == []
    assert missing(python, lacks) == lacks


@pytest.mark.parametrize("name", ["schema", "train", "analyze"])
def test_each_runs_alone_by_its_module_and_its_requirements_fit_together(name: str, tmp_path: Path) -> None:
    python = os.environ[f"PICO_{name.upper()}_PYTHON"]
    for words in (["-m", f"pico_{name}", "--version"], ["-m", f"pico_{name}", "--help"], ["-m", "pip", "check"]):
        done = subprocess.run([python, *words], capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
    code = f"import pico_{name} as p; print(p.__version__, p.__file__)"
    version, file = subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    ).stdout.split(maxsplit=1)
    said = subprocess.run(
        [python, "-m", f"pico_{name}", "--version"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert version in said.stdout
    assert Path(file).is_relative_to(Path(python).parents[1]), "from the wheel, not from the sources"


def test_the_analysis_is_no_heavier_than_its_page_says() -> None:
    """What no-one compiled: pip compiles when it installs, across.py does not. The page has both figures."""
    command = [sys.executable, ROOT / ".ci" / "sizes.py", Path(os.environ["PICO_ANALYZE_PYTHON"]).parents[1]]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    bare = float(said.splitlines()[-1].split()[-1])
    assert 100 < bare < AT_MOST_MB, said
