"""Read, write and verify documents and checkpoints on disk.

Reading is bounded (a document larger than `MAX_DOCUMENT` is refused unread), gated by version and validated. Writing
replaces a file atomically and durably, as `files` does it. Verifying re-hashes what a manifest lists and reports
everything that differs, rather than stopping at the first.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from pico_schema import layout, strict_json
from pico_schema.architecture import SPEC_KINDS
from pico_schema.digests import sha256_file as sha256_file  # under these names here too, as in 1.0
from pico_schema.errors import DocumentError, IncompleteError, SchemaVersionError, UnsafePathError
from pico_schema.files import fsync_directory as fsync_directory
from pico_schema.files import read_regular
from pico_schema.files import replace_file as replace_file
from pico_schema.manifest import SCHEMA_VERSION, CheckpointManifest, Evaluation, RunManifest
from pico_schema.migrations import migrate
from pico_schema.revisions import RevisionIndex
from pico_schema.suites import SuiteManifest

MAX_DOCUMENT = 64 * 2**20
"""Largest document read, in bytes: 64 MiB."""

D = TypeVar("D", RunManifest, CheckpointManifest, Evaluation, RevisionIndex, SuiteManifest)
_KINDS: dict[type[BaseModel], str] = {
    RunManifest: "run",
    CheckpointManifest: "checkpoint",
    Evaluation: "evaluation",
    RevisionIndex: "revisions",
    SuiteManifest: "suite",
}

Problem = Literal["missing", "truncated", "altered", "unexpected", "unsafe"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a checkpoint."""

    problem: Problem
    """What kind of damage."""
    path: str
    """File, relative to the checkpoint."""
    detail: str
    """One sentence for people."""


def dump(document: BaseModel) -> bytes:
    """The bytes of a document: UTF-8 JSON, indented, keys in the order of declaration, ending in a newline.

    Non-finite numbers become null: JSON has none. A document says the version that writes it, whatever it was read
    under: what a newer version had added was left out on reading, what an older one lacked has its default.
    """
    content = _finite(document.model_dump(mode="json"))
    if "schema_version" in content:
        content["schema_version"] = SCHEMA_VERSION
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def parse(content: bytes, model: type[D], *, where: str) -> D:
    """A document from its bytes.

    Raises:
        SchemaVersionError: of a newer major version.
        DocumentError: too large, not JSON, or not what its kind requires: the message names the first field.
    """
    if len(content) > MAX_DOCUMENT:
        raise DocumentError(f"{where}: too large for a document (at most {MAX_DOCUMENT} bytes)")
    try:
        raw = strict_json.parse(content)
    except ValueError as error:
        raise DocumentError(f"{where}: not valid JSON ({str(error)[:200]}): the file is damaged") from None
    if not isinstance(raw, dict):
        raise DocumentError(f"{where}: a JSON object was expected, found {type(raw).__name__}")
    kind = _KINDS[model]
    if raw.get("kind", kind) != kind:
        raise DocumentError(f"{where}: a {kind} document was expected, found {str(raw['kind'])[:40]!r}")
    try:
        current = json.dumps(migrate(raw, kind, where=where))  # from JSON, strictly: "3" and true are no numbers
        return model.model_validate_json(current, strict=True)
    except ValidationError as error:
        raise DocumentError(f"{where}: {_first_fault(error)}") from None
    except RecursionError:
        raise DocumentError(f"{where}: not valid JSON (it is nested too deeply): the file is damaged") from None
    except SchemaVersionError:
        raise
    except DocumentError as error:
        raise type(error)(str(error) if str(error).startswith(where) else f"{where}: {error}") from None


def _first_fault(error: ValidationError) -> str:
    """The first field that is not what it has to be, and why; names in it are foreign text."""
    first = error.errors()[0]
    # pydantic puts the kind of geometry between `model` and the field of it, where the document has nothing
    parts = [
        str(part)
        for before, part in zip((None, *first["loc"]), first["loc"], strict=False)
        if not (before == "model" and part in SPEC_KINDS)
    ]
    field = ".".join(parts) or "document"
    return f"{_printable(field[:200])}: {first['msg'][:500]}"


def _printable(name: str) -> str:
    """A foreign name as a terminal and a document can hold it: control characters and what is no text, escaped."""
    return name if name.isprintable() else ascii(name)[1:-1]


def read(path: Path, model: type[D]) -> D:
    """A document from its file.

    Raises:
        DocumentError: not there, unreadable, or as `parse` says.
    """
    try:
        content = read_regular(path, MAX_DOCUMENT + 1)
    except OSError as error:
        raise DocumentError(f"{path}: cannot be read ({error.strerror})") from None
    return parse(content, model, where=str(path))


def write(path: Path, document: BaseModel) -> None:
    """Put a document at `path`, atomically and durably."""
    replace_file(path, dump(document))


def read_run(run: Path) -> RunManifest:
    """The manifest of a run directory.

    Raises:
        IncompleteError: no `run.json`: this is not a run.
    """
    path = run / layout.RUN_MANIFEST
    if not path.is_file():
        raise IncompleteError(f"{run}: not a run: it has no {layout.RUN_MANIFEST}")
    return read(path, RunManifest)


def read_checkpoint(directory: Path) -> CheckpointManifest:
    """The manifest of a checkpoint directory.

    Raises:
        IncompleteError: no manifest: the checkpoint was never finished.
        UnsafePathError: the directory is a symbolic link, or its manifest one that leads out of it: what they show may
            be a checkpoint of something else.
    """
    _check_no_link(directory)
    path = directory / layout.MANIFEST
    if not path.is_file():
        raise IncompleteError(f"{directory}: incomplete: it has no {layout.MANIFEST}")
    return read(layout.inside(directory, layout.MANIFEST), CheckpointManifest)


def _check_no_link(directory: Path) -> None:
    if directory.is_symlink():
        raise UnsafePathError(f"{directory}: a symbolic link, not a checkpoint's own directory: refusing to use it")


def checkpoint_dirs(run: Path) -> Iterator[tuple[int, Path]]:
    """Step and directory of each checkpoint under a run, finished or not, by ascending step."""
    root = run / layout.CHECKPOINTS
    if root.is_dir():
        found = ((layout.parse_step_dir(entry.name), entry) for entry in root.iterdir() if entry.is_dir())
        yield from sorted((step, path) for step, path in found if step is not None)


def verify_checkpoint(
    directory: Path,
    manifest: CheckpointManifest | None = None,
    *,
    progress: Callable[[str], None] | None = None,
) -> list[Finding]:
    """Re-hash a checkpoint against its manifest.

    Args:
        directory: The checkpoint.
        manifest: Its manifest, if already read.
        progress: Called with each path before it is hashed.

    Returns:
        Everything missing, truncated (or longer), altered, unexpected or unsafe; empty if the checkpoint is sound.

    Raises:
        IncompleteError: there is no manifest.
        UnsafePathError: the directory is a symbolic link, or its manifest one that leads out of it.
        DocumentError: the manifest itself is damaged.
    """
    _check_no_link(directory)
    manifest = manifest or read_checkpoint(directory)
    layout.inside(directory, layout.MANIFEST)
    findings: list[Finding] = []
    for path, entry in manifest.files.items():
        if progress:
            progress(path)
        try:
            file = layout.inside(directory, path)
        except UnsafePathError as error:
            findings.append(Finding("unsafe", path, str(error)))
            continue
        if not file.is_file():
            findings.append(Finding("missing", path, f"{path} is missing"))
            continue
        size = file.stat().st_size
        if size != entry.size:
            findings.append(Finding("truncated", path, f"{path} has {size} bytes, the manifest says {entry.size}"))
        elif sha256_file(file) != entry.sha256:
            findings.append(Finding("altered", path, f"{path} does not have the content that was sealed"))
    for file in sorted(directory.rglob("*")):
        relative = file.relative_to(directory).as_posix()
        if (file.is_file() or file.is_symlink()) and relative != layout.MANIFEST and relative not in manifest.files:
            shown = _printable(relative)
            findings.append(Finding("unexpected", shown, f"{shown} is not in the manifest"))
    return findings
