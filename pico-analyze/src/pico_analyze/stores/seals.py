"""Whether a checkpoint's files are those that its manifest lists: compared in full on a disk, and with the Hub's own
list of files there, without a download.

A store of Pico's runs answers by `ChecksSeals`; runs of other makers have no seals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from pico_analyze.errors import DataError
from pico_analyze.stores.checked_file import CheckedFile, file_size
from pico_schema import CheckpointManifest


@dataclass(frozen=True)
class BrokenSeal:
    """A file that is not what a manifest says."""

    file: str
    """Its name, relative to the checkpoint."""
    reason: str
    """What is wrong, in a few words."""


@runtime_checkable
class ChecksSeals(Protocol):
    """A store of checkpoints with manifests."""

    def broken_seals(self, step: int) -> tuple[BrokenSeal, ...]:
        """The files of a step that are not those that its manifest lists.

        Raises:
            StorageError: disk or network.
        """
        ...


def unlike_on_disk(manifest: CheckpointManifest, place: Callable[[str], Path]) -> tuple[BrokenSeal, ...]:
    """Files on a disk that differ from the manifest; each is read through, once per content.

    Args:
        manifest: What was sealed.
        place: Path of a file; raises DataError where that is unsafe.
    """
    found = []
    for name, entry in manifest.files.items():
        try:
            path = place(name)
            if (size := file_size(path)) != entry.size:
                found.append(BrokenSeal(name, f"it has {size} bytes, the manifest says {entry.size}"))
            else:
                CheckedFile(path, entry.sha256).check()
        except DataError as error:
            missing = str(error).endswith("it is missing")
            found.append(BrokenSeal(name, "it is missing" if missing else _altered(str(error), entry.sha256)))
    return tuple(found)


def _altered(message: str, sha256: str) -> str:
    return f"it does not have the sha256 {sha256[:12]}… that the manifest says" if "sealed" in message else message


class Listed(Protocol):
    """What the Hub says of a file."""

    @property
    def size(self) -> int:
        """Its bytes."""
        ...

    @property
    def sha256(self) -> str | None:
        """Digest of its content, of files that are stored apart from git."""
        ...


def unlike_the_list(manifest: CheckpointManifest, listed: Mapping[str, Listed]) -> tuple[BrokenSeal, ...]:
    """Files on the Hub that differ from the manifest, by size and, where the Hub knows it, sha256.

    Args:
        manifest: What was published.
        listed: What the Hub says of each file, by name.
    """
    found = []
    for name, entry in manifest.files.items():
        there = listed.get(name)
        if there is None:
            found.append(BrokenSeal(name, "it is missing"))
        elif there.size != entry.size:
            found.append(BrokenSeal(name, f"it has {there.size} bytes, the manifest says {entry.size}"))
        elif there.sha256 not in (None, entry.sha256):
            found.append(BrokenSeal(name, f"it does not have the sha256 {entry.sha256[:12]}… that the manifest says"))
    return tuple(found)
