"""The environments that `across.py` makes hold one tool each. Not part of `make test`, which has one environment."""

from __future__ import annotations

import os
import subprocess

import pytest


def missing(python: str, names: list[str]) -> list[str]:
    """Those of the modules that an interpreter cannot find."""
    code = f"import importlib.util as u; print(*[name for name in {names} if u.find_spec(name) is None])"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize(
    ("variable", "has", "lacks"),
    [
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
