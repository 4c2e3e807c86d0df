from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from pico_schema import SCHEMA_VERSION, layout
from pico_schema.__main__ import main


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


def test_verify_says_what_is_wrong_and_ends_with_three(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(checkpoint)]) == 0
    (checkpoint / "config.json").unlink()
    assert main(["verify", str(checkpoint)]) == 3
    assert "missing: config.json is missing" in capsys.readouterr().out
    assert main(["verify", str(checkpoint.parent)]) == 3
    assert "error: " in capsys.readouterr().err
