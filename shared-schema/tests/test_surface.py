"""The public surface: what others may import, with its signatures. A change here is a change of the contract.

`python tests/test_surface.py` writes `surface.json` anew from the code; the difference is then there to be read.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel

import pico_schema

SNAPSHOT = Path(__file__).with_name("surface.json")
OF_FUNCTIONS = (
    "run_names",
    "evaluated",
    "digests",
    "documents",
    "files",
    "layout",
    "results",
    "sites",
    "strict_json",
    "tensor_header",
)
OF_CONSTANTS = ("layout", "sites", "tensor_header", "yaml_text")


def surface() -> dict[str, Any]:
    """The public surface as JSON values."""
    from pico_schema import errors, export

    public = {name: getattr(pico_schema, name) for name in pico_schema.__all__}
    models = {name: value for name, value in public.items() if inspect.isclass(value) and issubclass(value, BaseModel)}
    kinds = {name: value for name, value in vars(errors).items() if hasattr(value, "exit_code")}
    return {
        "schema version": pico_schema.SCHEMA_VERSION,
        "names": sorted(public),
        "functions": {name: _functions(module(name)) for name in sorted({*OF_FUNCTIONS, "yaml_text"})},
        "methods of ModelSpec": _methods(pico_schema.ModelSpec),
        "constants": {
            name: sorted(key for key in vars(module(name)) if key.isupper() and not key.startswith("_"))
            for name in OF_CONSTANTS
        },
        "fields": {name: list(model.model_fields) for name, model in sorted(models.items())},
        "documents": sorted(name.partition("-")[0] for name in export.json_schemas()),
        "commands": _commands(),
        "exit codes": {name: kind.exit_code for name, kind in kinds.items()},
    }


def module(name: str) -> ModuleType:
    return importlib.import_module(f"pico_schema.{name}")


def _functions(owner: ModuleType) -> list[str]:
    """Signatures as they are written; annotations are texts (from __future__ import annotations)."""
    return sorted(
        key + _signature(value)
        for key, value in vars(owner).items()
        if inspect.isfunction(value) and value.__module__ == owner.__name__ and not key.startswith("_")
    )


def _methods(kind: type) -> list[str]:
    own = {key: value for key, value in vars(kind).items() if inspect.isfunction(value) and not key.startswith("_")}
    return sorted(key + _signature(value) for key, value in own.items())


def _signature(value: Any) -> str:
    return str(inspect.signature(value)).replace("'", "").replace('"', "")


def _commands() -> dict[str, list[str]]:
    """Commands of `python -m pico_schema` with their arguments and options."""
    from pico_schema.__main__ import parser

    def of(one: argparse.ArgumentParser) -> list[str]:
        named = [action for action in one._actions if not isinstance(action, argparse._SubParsersAction)]
        return ["/".join(action.option_strings) or action.dest.upper() for action in named]

    top = parser()
    (below,) = (action for action in top._actions if isinstance(action, argparse._SubParsersAction))
    return {"": of(top), **{name: of(command) for name, command in below.choices.items()}}


def test_the_surface_is_the_one_that_was_written_down() -> None:
    assert surface() == json.loads(SNAPSHOT.read_text(encoding="utf-8")), "meant? then: python tests/test_surface.py"


def test_every_name_is_there() -> None:
    assert all(hasattr(pico_schema, name) for name in pico_schema.__all__)


def test_it_imports_neither_torch_nor_numpy() -> None:
    code = "import sys, pico_schema; print([name for name in ('torch', 'numpy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(surface(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
