"""What others build on: names, signatures, commands, studies, metrics, the table, exit codes. A change here is meant.

`python tests/test_surface.py` writes `surface.json` anew from the code; the difference is then there to be read.
"""

from __future__ import annotations

import inspect
import json
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pico_analyze
from pico_analyze.components.spec import ComponentSpec
from pico_analyze.metrics.spec import MetricSpec, Result
from pico_analyze.stores.spec import StoreSpec

SNAPSHOT = Path(__file__).with_name("surface.json")
GROUPS = ("pico_analyze.metrics", "pico_analyze.components", "pico_analyze.stores")
SPECS = (MetricSpec, ComponentSpec, StoreSpec, Result)


def surface() -> dict[str, Any]:
    """The public surface as JSON values."""
    import typer.main

    from pico_analyze import errors, metrics
    from pico_analyze.cli.app import app
    from pico_analyze.metrics.spec import METRICS
    from pico_analyze.questions.study_schema import Measurement, Named, StudyConfig
    from pico_analyze.stores.base import Store
    from pico_analyze.table.columns import COLUMNS, CORE, KEY

    functions = [name for name in pico_analyze.__all__ if name not in ("__version__", "metrics")]
    kinds = {name: kind for name, kind in vars(errors).items() if hasattr(kind, "exit_code")}
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return {
        "names": sorted(pico_analyze.__all__),
        "signatures": {name: _signature(getattr(pico_analyze, name)) for name in functions},
        "metrics": {name: _signature(getattr(metrics, name)) for name in metrics.__all__},
        "data of metrics": {
            name: " ".join(sorted(METRICS.get(name).accepts)) for name in METRICS.names() if _built_in(name)
        },
        "entry points": {group: sorted(point.name for point in _points(group)) for group in GROUPS},
        "commands": {name: [_option(parameter) for parameter in command.params] for name, command in commands.items()},
        "a study": {model.__name__: list(model.model_fields) for model in (StudyConfig, Measurement, Named)},
        "columns": {"core": list(CORE), "further": [name for name in COLUMNS if name not in CORE], "key": list(KEY)},
        "exit codes": {name: kind.exit_code for name, kind in kinds.items()},
        "specs": {spec.__name__: list(inspect.signature(spec).parameters) for spec in SPECS},
        "a store": sorted(name for name in {*Store.__annotations__, *vars(Store)} if not name.startswith("_")),
    }


def _points(group: str) -> list[Any]:
    return [point for point in entry_points(group=group) if point.value.startswith("pico_analyze.")]


def _built_in(name: str) -> bool:
    return name in {point.name for point in _points("pico_analyze.metrics")}


def _signature(value: Any) -> str:
    """As it is written: annotations are texts, from __future__ import annotations."""
    return str(inspect.signature(value)).replace("'", "").replace('"', "")


def _option(parameter: Any) -> str:
    if parameter.param_type_name == "option":
        return "/".join([*parameter.opts, *parameter.secondary_opts])
    return str(parameter.metavar or parameter.name.upper())


def test_the_surface_is_the_one_that_was_written_down() -> None:
    written = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    assert surface() == written, "meant? then: python tests/test_surface.py"


def test_what_is_public_is_seen_and_documented() -> None:
    assert set(pico_analyze.__all__) <= set(dir(pico_analyze))
    for name in pico_analyze.__all__:
        if name not in ("__version__", "metrics"):
            text = inspect.getdoc(getattr(pico_analyze, name)) or ""
            assert all(part in text for part in ("Args:", "Returns:", "Raises:", "Example:")), name


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(surface(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
