"""What the compatibility page says: each version's documents against each version's own JSON Schema, and the gate.

`golden/<version>/schemas` holds what `python -m pico_schema export` of that version wrote: what its readers know.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from pico_conformance.compatibility import GOLDEN, PAGE, ROOT, answer, next_major, page, upgrade, versions
from pico_schema import SCHEMA_VERSION
from pico_schema.export import json_schemas

TRAIN = os.environ.get("PICO_TRAIN_PYTHON", sys.executable)
ANALYZE = os.environ.get("PICO_ANALYZE_PYTHON", sys.executable)
MINORS = [version for version in versions() if version.startswith("1.")]


def written(version: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Kind and content of each document of a golden run."""
    run = GOLDEN / version / "golden"
    yield "run", json.loads((run / "run.json").read_bytes())
    for path in sorted(run.glob("checkpoints/*/manifest.json")):
        yield "checkpoint", json.loads(path.read_bytes())
    for path in sorted(run.glob("evaluations/*.json")):
        yield "evaluation", json.loads(path.read_bytes())


def reader(version: str, kind: str) -> Draft202012Validator:
    """What readers of a version demand of a kind of document."""
    schema = json.loads((GOLDEN / version / "schemas" / f"{kind}-{version}.schema.json").read_bytes())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def test_the_page_is_that_of_the_code() -> None:
    assert (ROOT / "shared-schema" / "docs" / PAGE).read_text(encoding="utf-8") == page(), "make docs writes it"


def test_the_schemas_of_the_current_version_are_those_of_the_code() -> None:
    kept = {path.name: path.read_text(encoding="utf-8") for path in (GOLDEN / SCHEMA_VERSION / "schemas").iterdir()}
    assert kept == json_schemas(), "python -m pico_schema export writes them"


@pytest.mark.parametrize("of_reader", MINORS)
@pytest.mark.parametrize("of_document", MINORS)
def test_a_document_is_what_readers_of_every_minor_version_demand(of_document: str, of_reader: str) -> None:
    assert answer(of_document, of_reader).startswith("yes")
    read = 0
    for kind, document in written(of_document):
        assert list(reader(of_reader, kind).iter_errors(document)) == []
        read += 1
    assert read >= 6, "run.json and five manifests"


def test_a_reader_of_minor_0_would_notice_what_it_needs() -> None:
    """The oracle is one: without a field that 1.0 demands, or with another type, it says no."""
    document = next(content for kind, content in written(SCHEMA_VERSION) if kind == "checkpoint")
    check = reader("1.0", "checkpoint")
    needed = json.loads((GOLDEN / "1.0" / "schemas" / "checkpoint-1.0.schema.json").read_bytes())["required"]
    assert {"run_id", "step", "files"} <= set(needed)
    for name in needed:
        assert not check.is_valid({key: value for key, value in document.items() if key != name}), name
    assert not check.is_valid(document | {"step": "four"})


def aged(tmp_path: Path, version: str) -> Path:
    """The golden run of today, its documents saying another version and one field that nobody knows."""
    run = tmp_path / "golden"
    shutil.copytree(GOLDEN / SCHEMA_VERSION / "golden", run)
    for path in [run / "run.json", *run.glob("checkpoints/*/manifest.json")]:
        content = json.loads(path.read_bytes()) | {"schema_version": version, "moon_phase": "waxing"}
        path.write_text(json.dumps(content))
    return run


def called(python: str, tool: str, *words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [python, "-m", tool, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


@pytest.mark.parametrize(
    ("python", "tool", "words"),
    [(TRAIN, "pico_train", ["verify"]), (TRAIN, "pico_train", ["inspect"]), (ANALYZE, "pico_analyze", ["list"]),
     (ANALYZE, "pico_analyze", ["compute", "norm", "--data", "weights"])],
)  # fmt: skip
def test_a_future_major_version_is_refused_with_the_command_that_upgrades(
    python: str, tool: str, words: list[str], tmp_path: Path
) -> None:
    done = called(python, tool, *words, aged(tmp_path, next_major()), cwd=tmp_path)
    assert done.returncode == 3, done.stdout + done.stderr
    assert f"written under schema {next_major()}" in done.stderr and f"`{upgrade()}`" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_future_minor_version_is_read_without_what_is_newer(tmp_path: Path) -> None:
    newer = f"1.{int(SCHEMA_VERSION.partition('.')[2]) + 1}"
    run = aged(tmp_path, newer)
    done = called(ANALYZE, "pico_analyze", "list", run, "--format", "json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "moon_phase" not in done.stdout
