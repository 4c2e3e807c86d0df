"""A small checkpoint on disk, made with the contract alone, for the tests of this package."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from pico_schema import documents, layout
from pico_schema.manifest import CheckpointManifest, RunManifest

# How long an example takes says nothing on a machine that does other things as well.
settings.register_profile("quick", deadline=None, max_examples=25)
settings.register_profile("thorough", deadline=None, max_examples=200)
settings.load_profile("quick")

CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def common(**changes: Any) -> dict[str, Any]:
    """Fields that a run's and a checkpoint's manifest share."""
    fields: dict[str, Any] = {
        "created": CREATED,
        "producer": {"name": "a test", "version": "0"},
        "seed": 7,
        "model": {"vocab_size": 64, "d_model": 16, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "d_ff": 32},
        "data": {"source": "text", "sha256": "0" * 64, "n_rows": 100, "seq_len": 8, "vocab_size": 64},
    }
    return fields | changes


def checkpoint_fields(files: dict[str, bytes] | None = None, **changes: Any) -> dict[str, Any]:
    """Fields of a checkpoint's manifest over these files."""
    entries = {
        path: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for path, content in (files or {}).items()
    }
    own = {
        "run_id": "ab" * 16,
        "run_name": "demo",
        "step": 3,
        "tokens_seen": 3 * 4 * 8,
        "cursor": {"epoch": 0, "row": 12, "batch_size": 4},
        "files": entries,
    }
    return common() | own | changes


FILES = {"model.safetensors": b"weights" * 10, "config.json": b"{}", "captures/train.safetensors": b"captures"}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A sealed checkpoint of three files."""
    directory = tmp_path / "demo" / layout.checkpoint_dir(3)
    for path, content in FILES.items():
        file = directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    manifest = CheckpointManifest.model_validate(checkpoint_fields(FILES))
    documents.write(directory / layout.MANIFEST, manifest)
    return directory


@pytest.fixture
def run(checkpoint: Path) -> Path:
    """The run around it."""
    directory = checkpoint.parents[1]
    manifest = RunManifest.model_validate(common(id="ab" * 16, name="demo", config={"seed": 7}))
    documents.write(directory / layout.RUN_MANIFEST, manifest)
    return directory
