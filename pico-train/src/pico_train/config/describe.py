"""Every setting with its help and what it accepts, read from the schema: for `--explain`, the reference page, hints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from pico_train.config.base import MAX_COUNT
from pico_train.config.schema import RunConfig


def fields(model: type[BaseModel] = RunConfig, prefix: str = "") -> dict[str, str]:
    """Dotted name → help of each setting that is a leaf of the tree, in order."""
    found: dict[str, str] = {}
    for name, field in model.model_fields.items():
        if is_section(field.annotation):
            found |= fields(field.annotation, f"{prefix}{name}.")  # type: ignore[arg-type]
        else:
            found[prefix + name] = " ".join((field.description or "").split())
    return found


def choices(path: str) -> str:
    """What a setting accepts, for the reference: ``one of a, b``, ``integer, more than 0, or null`` and the like."""
    model: Any = RunConfig
    *parents, name = path.split(".")
    for part in parents:
        model = model.model_fields[part].annotation
    schema = model.model_json_schema()["properties"][name]
    return ", or ".join(_accepted(option) for option in schema.get("anyOf", [schema]))


def _accepted(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    if schema.get("type") == "array":
        return "a list"
    words = {"string": "text", "boolean": "true or false", "number": "number", "integer": "integer", "null": "null"}
    bounds = {
        "exclusiveMinimum": "more than",
        "minimum": "at least",
        "exclusiveMaximum": "less than",
        "maximum": "at most",
    }
    # What any count is bounded by says nothing about a setting.
    told = [(word, schema[key]) for key, word in bounds.items() if key in schema and schema[key] < MAX_COUNT]
    said = [f"{word} {bound if isinstance(bound, int) else format(bound, 'g')}" for word, bound in told]
    return ", ".join([words.get(schema.get("type", ""), "a mapping"), *said])


def is_section(model: Any) -> bool:
    """Whether a field's type is a section of the tree rather than a value."""
    return isinstance(model, type) and issubclass(model, BaseModel)
