"""JSON Schema files of the documents, for readers in other languages."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel

from pico_schema.manifest import SCHEMA_VERSION, CheckpointManifest, Evaluation, RunManifest
from pico_schema.revisions import RevisionIndex
from pico_schema.suites import SuiteManifest

_DOCUMENTS: dict[str, type[BaseModel]] = {
    "run": RunManifest,
    "checkpoint": CheckpointManifest,
    "evaluation": Evaluation,
    "revisions": RevisionIndex,
    "suite": SuiteManifest,
}


def json_schemas() -> dict[str, str]:
    """File name → JSON Schema (draft 2020-12) of each document."""
    schemas = {}
    for kind, model in _DOCUMENTS.items():
        schema = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": f"Pico {kind} document, schema {SCHEMA_VERSION}",
            **{key: value for key, value in model.model_json_schema().items() if key != "title"},
        }
        schemas[f"{kind}-{SCHEMA_VERSION}.schema.json"] = json.dumps(schema, indent=1) + "\n"
    return schemas


def export(directory: Path) -> list[Path]:
    """Write the JSON Schema of each document into `directory`; returns the files."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, text in json_schemas().items():
        path = directory / name
        path.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths
