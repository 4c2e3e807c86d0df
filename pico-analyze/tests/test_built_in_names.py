"""Metrics, components and kinds of runs are known by their descriptions: no code outside their rooms names one."""

import ast
from pathlib import Path

import pytest

import pico_analyze
from pico_analyze.components.spec import COMPONENTS
from pico_analyze.metrics.spec import METRICS
from pico_analyze.stores.spec import STORES

ROOT = Path(pico_analyze.__file__).parent
ROOMS = ("engine", "output", "table", "cli", "statistics")
ALLOWED = {
    ("cli/app.py", "simple"): "what is measured when no component is named",
    ("cli/app.py", "pico"): "the project of Weights & Biases, not the kind of run",
    ("output/wandb.py", "pico"): "the project of Weights & Biases, not the kind of run",
}


def named_in(source: str, names: set[str]) -> set[str]:
    """Those of the names that stand in the code as a text of their own."""
    constants = (node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant))
    return {value for value in constants if isinstance(value, str) and value in names}


def built_in_names() -> set[str]:
    companions = {METRICS.get(name).companion for name in METRICS.names()} - {None}
    return {*METRICS.names(), *COMPONENTS.names(), *STORES.names(), *companions}


def test_the_check_sees_a_name():
    assert named_in("if metric in ('cka', 'other'): pass  # gini", {"cka", "gini"}) == {"cka"}


@pytest.mark.parametrize("room", ROOMS)
def test_no_built_in_is_known_by_name(room):
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    names = built_in_names()
    found = {(str(file.relative_to(ROOT)), name) for file in files for name in named_in(file.read_text(), names)}
    assert found == {place for place in ALLOWED if place[0].startswith(f"{room}/")}
