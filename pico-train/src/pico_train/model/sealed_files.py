"""Is what is about to be read what was sealed? The files of one checkpoint, by the digests in its manifest."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pico_schema import CheckpointManifest, documents, layout
from pico_schema.digests import sha256_file
from pico_train.errors import CheckpointError


def sealed_manifest(directory: Path) -> CheckpointManifest | None:
    """The manifest of a checkpoint; None for a model of others, which has none.

    Raises:
        SchemaError: it is damaged, or the directory is a symbolic link.
    """
    there = (directory / layout.MANIFEST).exists()
    return documents.read_checkpoint(directory) if there else None


def check_sealed(directory: Path, manifest: CheckpointManifest, names: Iterable[str]) -> None:
    """Hash files of a checkpoint against its manifest.

    Raises:
        CheckpointError: a file is missing, not in the manifest, or not what was sealed.
        UnsafePathError: a file is a link that leads out of the checkpoint.
    """
    for name in names:
        entry = manifest.files.get(name)
        path = layout.inside(directory, name)
        if entry is None:
            raise CheckpointError(f"{path} is not in the checkpoint's {layout.MANIFEST}: it was put there later")
        try:
            if path.stat().st_size != entry.size or sha256_file(path) != entry.sha256:
                raise CheckpointError(f"{path} does not have the content that was sealed: run pico-train verify")
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read ({error.strerror or error})") from None
