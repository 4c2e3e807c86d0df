from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from pico_schema import SCHEMA_VERSION, layout
from pico_schema.__main__ import main
from pico_schema.export import export, json_schemas


def test_exported_schemas_accept_real_documents_and_refuse_broken_ones(
    tmp_path: Path, run: Path, checkpoint: Path
) -> None:
    assert main(["export", str(tmp_path / "schemas")]) == 0
    documents = {"run": run / layout.RUN_MANIFEST, "checkpoint": checkpoint / layout.MANIFEST}
    for name, path in documents.items():
        schema = json.loads((tmp_path / "schemas" / f"{name}-{SCHEMA_VERSION}.schema.json").read_text())
        jsonschema.Draft202012Validator.check_schema(schema)
        document = json.loads(path.read_text())
        jsonschema.validate(document, schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(document | {"seed": "not a number"}, schema)


@pytest.mark.usefixtures("run")
def test_exported_schemas_say_of_each_field_what_it_is(tmp_path: Path) -> None:
    for text in json_schemas().values():
        schema = json.loads(text)
        for part in (schema, *schema["$defs"].values()):
            assert part["description"]
            for name, field in part.get("properties", {}).items():
                assert field.get("description"), name
    assert export(tmp_path / "new" / "folder") == [tmp_path / "new" / "folder" / name for name in json_schemas()]


def test_schemas_are_written_one_field_a_line_and_over_older_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert main(["export", str(tmp_path)]) == 0
        names = [f"{kind}-1.2.schema.json" for kind in ("run", "checkpoint", "evaluation", "revisions", "suite")]
        assert capsys.readouterr().out.splitlines() == [str(tmp_path / name) for name in names]
    for kind, name in zip(("run", "checkpoint", "evaluation", "revisions", "suite"), names, strict=True):
        lines = (tmp_path / name).read_text(encoding="utf-8").splitlines(keepends=True)
        assert lines[:3] == [
            "{\n",
            ' "$schema": "https://json-schema.org/draft/2020-12/schema",\n',
            f' "title": "Pico {kind} document, schema 1.2",\n',
        ]
        assert lines[-1] == "}\n"


def test_verify_says_what_is_wrong_and_ends_with_three(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(checkpoint)]) == 0
    (checkpoint / "config.json").unlink()
    assert main(["verify", str(checkpoint)]) == 3
    assert "missing: config.json is missing" in capsys.readouterr().out
    assert main(["verify", str(checkpoint.parent)]) == 3
    assert "error: " in capsys.readouterr().err
