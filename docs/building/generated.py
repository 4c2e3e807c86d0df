"""Pages that are no file of the repository: the Python interface, for mkdocstrings, and the documents' JSON Schema."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pico_analyze
import pico_schema
import pico_train
from pico_analyze.errors import PluginError
from pico_analyze.metrics.spec import METRICS
from pico_schema.export import export


def interface() -> dict[str, str]:
    """Pages of what `__all__` of each package names, and of the metrics as functions."""
    pages = {}
    for module in (pico_train, pico_analyze, pico_schema):
        functions, classes, modules = [], [], []
        for name in sorted(module.__all__):
            found = getattr(module, name)
            if inspect.ismodule(found):
                modules.append(found.__name__)
            elif inspect.isclass(found):
                classes.append(f"{found.__module__}.{found.__qualname__}")
            elif inspect.isfunction(found):
                functions.append(f"{found.__module__}.{found.__qualname__}")
        if module is pico_analyze:  # whose functions are a page of their own
            modules.remove("pico_analyze.metrics")
        pages[f"{module.__name__}.md"] = _interface(module, functions, classes, modules)
    specs = [spec for spec in METRICS.each() if not isinstance(spec, PluginError)]
    built_in = [spec for spec in specs if spec.fn.__module__.startswith("pico_analyze.")]
    named = [f"{spec.fn.__module__}.{spec.fn.__name__}" for spec in built_in]
    pages["pico_analyze.metrics.md"] = "\n".join(
        [
            "# Metrics as functions",
            "",
            "Of arrays, or of a `Matrix`, in `pico_analyze.metrics`. What each means: [metrics](../metrics.md).",
            *(line for path in sorted(named) for line in ("", *_directive(path))),
            "",
        ]
    )
    return pages


def _interface(module: ModuleType, functions: list[str], classes: list[str], modules: list[str]) -> str:
    lines = [f"# {module.__name__}", "", _first_paragraph(module)]
    for title, paths in {"Functions": functions, "Classes": classes, "Modules": modules}.items():
        if paths:
            lines += ["", f"## {title}"]
            lines += [line for path in sorted(paths, key=_last) for line in ("", *_directive(path))]
    return "\n".join(lines) + "\n"


def _last(path: str) -> str:
    return path.rpartition(".")[2].lower()


def _directive(path: str) -> list[str]:
    return [f"::: {path}", "    options:", "      heading_level: 3"]


def _first_paragraph(module: ModuleType) -> str:
    return " ".join((inspect.getdoc(module) or "").partition("\n\n")[0].split())


def schemas(folder: Path) -> str:
    """Write the documents' JSON Schema into a folder named `schemas`; the page that shows them."""
    lines = ["# JSON Schema of the documents", ""]
    lines += [
        "What `run.json`, `manifest.json` and the others hold, for readers in other languages. "
        "`python -m pico_schema export FOLDER` writes these files; they and this page are made from the code.",
    ]
    for path in sorted(export(folder)):
        schema = json.loads(path.read_bytes())
        lines += ["", f"## {schema['title']}", "", f"[{path.name}](schemas/{path.name})"]
        for title, one in _objects(schema):
            lines += ["", *([f"### {title}", "", _text(one), ""] if title else [_text(one), ""])]
            lines += ["| field | type | meaning |", "|---|---|---|"]
            needed = set(one.get("required", ()))
            for field, kind in one["properties"].items():
                mark = "" if field in needed else ", optional"
                lines.append(f"| `{field}` | {_kind(kind)}{mark} | {_text(kind)} |")
    return "\n".join(lines) + "\n"


def _objects(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    if "properties" in schema:
        yield "", schema
    for name, one in schema.get("$defs", {}).items():
        if "properties" in one:
            yield name, one


def _text(one: dict[str, Any]) -> str:
    return " ".join(str(one.get("description", "")).split()).replace("|", "\\|")


def _kind(one: dict[str, Any]) -> str:
    if "$ref" in one:
        return f"{one['$ref'].rpartition('/')[2]}"
    if "anyOf" in one:
        return " or ".join(_kind(part) for part in one["anyOf"])
    if "const" in one:
        return f"`{one['const']}`"
    if "enum" in one:
        return " or ".join(f"`{value}`" for value in one["enum"])
    if one.get("type") == "array" and "items" in one:
        return f"list of {_kind(one['items'])}"
    return str(one.get("type", "any"))
