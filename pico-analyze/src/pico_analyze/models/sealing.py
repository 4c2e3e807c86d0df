"""Checkpoints of the contract, written and sealed one by one in a run's directory.

A checkpoint appears whole or not at all: its files, then its manifest, are made durable in a directory of another
name, and one rename puts it in its place; then the index of the run is replaced. Whoever is killed loses the
checkpoint that was being written, and no other. One command at a time writes into a directory.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pico_analyze.errors import DataError, StorageError, UsageError
from pico_analyze.version import __version__
from pico_schema import (
    CheckpointEntry,
    CheckpointManifest,
    FileEntry,
    Producer,
    RunManifest,
    SchemaError,
    documents,
    layout,
)
from pico_schema.digests import sha256_file
from pico_schema.files import discard_with_process, fsync_directory, replace_file
from pico_schema.layout import check_run_name

PRODUCER = Producer(name="pico-analyze", version=__version__)
LOCK = ".writing.lock"
TEMPORARY = ".tmp-"
"""How the name of what is being written begins; `LocalStore` tells such checkpoints as unfinished."""
_NUMPY = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}

Stored = tuple[str, tuple[int, ...], "memoryview | bytearray"]
"""A tensor as a safetensors file holds it: the format's name of its type, its shape, its bytes."""


@dataclass
class Contents:
    """What one checkpoint will hold."""

    step: int
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Small files, by name."""
    tensors: Mapping[str, Mapping[str, Stored]] = field(default_factory=dict)
    """Safetensors files: path → tensors by name."""
    metadata: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Text for their headers, by path."""
    links: Mapping[str, tuple[Path, str]] = field(default_factory=dict)
    """Files that are there already, path → where, and their digest: linked if the file system can, else copied."""
    manifest: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the manifest; run, step, producer, time and files are known here."""


@contextmanager
def only_writer(out: Path, made_by: str) -> Iterator[None]:
    """Hold a directory for writing; what a killed writer left unfinished is removed.

    Args:
        out: The directory, which may not be there yet.
        made_by: The command whose runs may be in it.

    Raises:
        UsageError: another command writes into it, or it holds something else.
        StorageError: the disk refused.
    """
    if out.exists():
        read_run(out, made_by)
    try:
        (out / layout.CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / LOCK)
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(f"{out}: another command is writing into it: wait for it, or name another --out") from None
    except OSError as error:
        raise _refused(out, error) from None
    try:
        for place in (*out.glob(f"{TEMPORARY}*"), *(out / layout.CHECKPOINTS).glob(f"{TEMPORARY}*")):
            shutil.rmtree(place, ignore_errors=True)
        for file in out.glob(".*.tmp"):
            file.unlink(missing_ok=True)
        yield
    finally:
        lock.release()  # the file stays: were it removed, two could hold a lock on files of one name


def seal(out: Path, run: RunManifest, contents: Contents) -> CheckpointManifest:
    """Write a checkpoint and put it in its place; the index of the run is not touched.

    Raises:
        StorageError: the disk refused; nothing is left of it.
    """
    root = out / layout.CHECKPOINTS
    target, temporary = root / layout.step_dir(contents.step), root / f"{TEMPORARY}{layout.step_dir(contents.step)}"
    discard_with_process(temporary)
    try:
        temporary.mkdir()
        manifest = _written(temporary, run, contents)
        replace_file(temporary / layout.MANIFEST, documents.dump(manifest))
        temporary.rename(target)
        fsync_directory(root)
    except OSError as error:
        raise _refused(target, error) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return manifest


def _written(directory: Path, run: RunManifest, contents: Contents) -> CheckpointManifest:
    found: dict[str, FileEntry] = {}
    for name, content in contents.files.items():
        found[name] = _put(directory / name, [content])
    for name, (path, digest) in contents.links.items():
        found[name] = FileEntry(size=path.stat().st_size, sha256=digest)
        _link(path, directory / name, digest)
    for name, tensors in contents.tensors.items():
        (directory / name).parent.mkdir(exist_ok=True)
        found[name] = _put(directory / name, _safetensors(tensors, contents.metadata.get(name, {})))
        fsync_directory((directory / name).parent)
    weights = found.get(layout.WEIGHTS)
    facts = dict(contents.manifest)
    if weights is not None:
        facts["weights_sha256"] = weights.sha256
    return CheckpointManifest(
        run_id=run.id,
        run_name=run.name,
        step=contents.step,
        created=datetime.now(UTC),
        producer=PRODUCER,
        model=run.model,
        data=run.data,
        files=dict(sorted(found.items())),
        **facts,
    )


def _put(path: Path, chunks: Sequence[bytes | bytearray | memoryview] | Iterator[bytes | memoryview]) -> FileEntry:
    """A new file, durable; hashed while it is written."""
    digest, size = hashlib.sha256(), 0
    with path.open("xb") as file:
        for chunk in chunks:
            digest.update(chunk)
            file.write(chunk)
            size += len(chunk)
        file.flush()
        os.fsync(file.fileno())
    return FileEntry(size=size, sha256=digest.hexdigest())


def _link(source: Path, target: Path, digest: str) -> None:
    """The same file under another name, or a copy of it that has its digest."""
    try:
        os.link(source.resolve(), target)
        with target.open("rb") as file:
            os.fsync(file.fileno())  # it may have been downloaded just now
    except OSError:
        with source.open("rb") as file:
            copied = _put(target, iter(lambda: file.read(1 << 24), b""))
        if copied.sha256 != digest:
            raise DataError(f"{source}: it was changed while it was copied") from None


def _safetensors(tensors: Mapping[str, Stored], metadata: Mapping[str, str]) -> Iterator[bytes | memoryview]:
    """The bytes of a safetensors file: tensors of wider types first, so that each is aligned."""
    names = sorted(tensors, key=lambda name: (-_NUMPY[tensors[name][0]], name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **metadata}}
    offset = 0
    for name in names:
        dtype, shape, content = tensors[name]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + len(content)]}
        offset += len(content)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in names:
        yield memoryview(tensors[name][2])


def write_run(out: Path, run: RunManifest) -> None:
    """Put the manifest of a run in its place.

    Raises:
        StorageError: the disk refused.
    """
    try:
        documents.write(out / layout.RUN_MANIFEST, run)
    except OSError as error:
        raise _refused(out, error) from None


def read_run(out: Path, made_by: str) -> RunManifest | None:
    """The run that a directory holds, if this package made it by this command; None where it holds nothing.

    Raises:
        UsageError: it holds something else.
    """
    if not out.is_dir():
        raise UsageError(f"{out} is no directory: name another --out")
    if (out / layout.RUN_MANIFEST).is_file():
        try:
            run = documents.read_run(out)
        except SchemaError as error:
            raise DataError(str(error)) from None
        if made_by in run.config:
            return run
        raise UsageError(f"{out} holds the run {run.name!r}, which is not of `{made_by}`: name another --out")
    kept = [entry.name for entry in out.iterdir() if entry.name != LOCK and not entry.name.startswith(TEMPORARY)]
    if [name for name in kept if name != layout.CHECKPOINTS] or any((out / layout.CHECKPOINTS).glob("step-*")):
        raise UsageError(f"{out} is not empty, and holds no run: name another --out")
    return None


def sealed(out: Path, run: RunManifest) -> dict[int, CheckpointManifest]:
    """The sealed checkpoints of a run, by step; those that a killed command left out of the index are put there.

    Raises:
        DataError: one is damaged, or another run's.
    """
    found: dict[int, CheckpointManifest] = {}
    index = run
    for step, directory in documents.checkpoint_dirs(out):
        try:
            manifest = documents.read_checkpoint(directory)
        except SchemaError as error:
            raise DataError(f"{error}: take it away, and it is made anew") from None
        if manifest.run_id != run.id:
            raise DataError(f"{directory}: it is of another run: take it away")
        found[step] = manifest
        index = index.with_checkpoint(entry(directory, manifest))
    if index != run:
        write_run(out, index)
    return found


def run_name(out: Path) -> str:
    """A name for the run in a directory: the directory's own, as far as it can name a run."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", out.resolve().name).strip("-._")[:90] or "run"
    try:
        return check_run_name(plain)
    except SchemaError:
        return re.sub(r"\.+", "-", plain)


def entry(directory: Path, manifest: CheckpointManifest) -> CheckpointEntry:
    """The line of a checkpoint in its run's index."""
    digest = sha256_file(directory / layout.MANIFEST)
    return CheckpointEntry(step=manifest.step, tokens_seen=manifest.tokens_seen, manifest_sha256=digest)


def add_to_index(out: Path, step: int) -> None:
    """Name a sealed checkpoint in its run's index."""
    directory = out / layout.CHECKPOINTS / layout.step_dir(step)
    try:
        run = documents.read_run(out)
        write_run(out, run.with_checkpoint(entry(directory, documents.read_checkpoint(directory))))
    except SchemaError as error:
        raise DataError(str(error)) from None


def check_same(out: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to put what was asked differently into one directory.

    Raises:
        UsageError: names the first difference.
    """
    for name, value in json.loads(json.dumps(now)).items():
        if before.get(name) != value:
            raise UsageError(
                f"{out} holds another answer: its {name.replace('_', ' ')} is {_short(before.get(name))}, and this "
                f"command's {_short(value)}: name another --out"
            )


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else f"{text[:76]} …"


def _refused(path: Path, error: OSError) -> StorageError:
    return StorageError(f"{path}: writing failed ({error.strerror or error}): check the disk; what is sealed is kept")
