"""Where huggingface_hub keeps what it downloaded: ``models--org--name/snapshots/<commit>/``, links to ``blobs/``."""

from __future__ import annotations

from pathlib import Path

SNAPSHOTS = "snapshots"
_REPOSITORY = "models--"


def cached_repository(path: Path) -> Path | None:
    """The folder of a repository, if a path is that or its `snapshots`."""
    path = path.absolute()
    folder = path.parent if path.name == SNAPSHOTS else path
    return folder if folder.name.startswith(_REPOSITORY) and (folder / SNAPSHOTS).is_dir() else None


def repository_of(snapshot: Path) -> Path | None:
    """The folder of the repository, if a directory is one of its snapshots."""
    parent = snapshot.absolute().parent
    return cached_repository(parent) if parent.name == SNAPSHOTS else None


def repository_name(folder: Path) -> str:
    """``name`` of ``models--org--name``."""
    return folder.name.rpartition("--")[2]
