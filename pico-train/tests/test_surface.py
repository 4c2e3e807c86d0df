"""What others build on: names and signatures, commands and options, settings, exit codes. A change here is meant.

`python tests/test_surface.py` writes `surface.json` anew from the code; the difference is then there to be read.
"""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pico_train

SNAPSHOT = Path(__file__).with_name("surface.json")


def surface() -> dict[str, Any]:
    """The public surface as JSON values."""
    import typer.main

    from pico_train import errors
    from pico_train.cli.app import app
    from pico_train.config import describe, layers

    kinds = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type)}
    functions = {name: getattr(pico_train, name) for name in pico_train.__all__ if name != "__version__"}
    return {
        "names": sorted(pico_train.__all__),
        "signatures": {name: str(inspect.signature(function)) for name, function in functions.items()},
        "commands": _commands(typer.main.get_command(app), "pico-train"),
        "settings": {path: describe.choices(path) for path in describe.fields()},
        "presets": layers.presets(),
        "exit codes": {name: kind.exit_code for name, kind in kinds.items()},
    }


def _commands(command: Any, path: str) -> dict[str, list[str]]:
    children = getattr(command, "commands", None)
    if children:
        found: dict[str, list[str]] = {}
        for name, child in children.items():
            found |= _commands(child, f"{path} {name}")
        return found
    return {
        path: [
            "/".join([*parameter.opts, *parameter.secondary_opts])
            if parameter.param_type_name == "option"
            else str(parameter.metavar or parameter.name.upper())
            for parameter in command.params
        ]
    }


def test_the_surface_is_the_one_that_was_written_down() -> None:
    assert surface() == json.loads(SNAPSHOT.read_text(encoding="utf-8")), "meant? then: python tests/test_surface.py"


def test_what_is_public_is_seen_and_documented() -> None:
    assert dir(pico_train) == sorted(pico_train.__all__)
    for name in pico_train.__all__:
        if name != "__version__":
            text = inspect.getdoc(getattr(pico_train, name)) or ""
            assert all(part in text for part in ("Returns:", "Example:")), name


def test_an_unknown_name_is_told_the_nearest() -> None:
    misspelt = "load_confg"
    with pytest.raises(AttributeError, match=f"no attribute '{misspelt}'; did you mean 'load_config'"):
        getattr(pico_train, misspelt)
    assert not hasattr(pico_train, "_nothing_like_it")


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, pico_train; dir(pico_train);"
        "print([name for name in ('torch', 'numpy', 'pydantic', 'yaml', 'typer') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(surface(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
