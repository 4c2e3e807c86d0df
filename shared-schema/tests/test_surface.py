"""The public surface: what others may import. A change here is a change of the contract."""

from __future__ import annotations

import subprocess
import sys

import pico_schema

SURFACE = {
    "SCHEMA_VERSION", "Capture", "CheckpointEntry", "CheckpointManifest", "ConfigChange", "DataCursor",
    "DataFingerprint", "DocumentError", "Evaluation", "FileEntry", "Finding", "IncompleteError", "ModelSpec",
    "Producer", "Revision", "RevisionIndex", "RunManifest", "SchemaError", "SchemaVersionError", "Site", "SiteError",
    "UnsafePathError", "__version__", "documents", "layout", "read_checkpoint", "read_run", "sites",
    "verify_checkpoint",
}  # fmt: skip


def test_the_surface_is_this() -> None:
    assert set(pico_schema.__all__) == SURFACE
    assert all(hasattr(pico_schema, name) for name in SURFACE)


def test_it_imports_neither_torch_nor_numpy() -> None:
    code = "import sys, pico_schema; print([name for name in ('torch', 'numpy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
