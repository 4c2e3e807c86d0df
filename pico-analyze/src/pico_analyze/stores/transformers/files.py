"""The files of one checkpoint, wherever they lie: what a model is read from.

A `ModelFiles` gives names and sizes, small documents, and tensors by range; it knows digests and says what could not be
compared with one. What the files mean is `model.py`'s business.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pico_analyze.errors import DataError
from pico_analyze.stores.checked_file import CheckedFile
from pico_analyze.stores.json_file import checked_json
from pico_analyze.stores.safetensors import TensorFile
from pico_schema import SchemaError, layout


class ModelFiles(Protocol):
    """The files of one checkpoint."""

    where: str
    """Path or address, for messages."""
    sealed: bool
    """Whether `digest` vouches for every byte."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """Bytes of each file, by name; of files in the checkpoint's own directory."""
        ...

    def at(self, name: str) -> str:
        """A file's path or address, for messages."""
        ...

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object."""
        ...

    def tensors(self, name: str) -> TensorFile:
        """A safetensors file."""
        ...

    def sha256(self, name: str) -> str:
        """Digest of a file that was read."""
        ...

    def unchecked(self, name: str, tensor: str) -> Mapping[str, str]:
        """What was read of a tensor before its file could be compared with its digest; see `Input.unchecked`."""
        ...

    def confirms(self, name: str, unchecked: Mapping[str, str]) -> bool | None:
        """Whether it was right; see `Confirms`."""
        ...

    def identity(self, name: str) -> str:
        """What changes when the content of a file does: cheap, without reading it."""
        ...

    def place(self, name: str, target: Path) -> None:
        """Put a file as a whole where nothing is yet, compared with its digest: a link to it, or a copy."""
        ...

    def check(self, name: str) -> None:
        """Raise DataError if a file that was placed is no longer what it was."""
        ...

    def provenance(self) -> dict[str, str]:
        """Where the files lie."""
        ...


@runtime_checkable
class HoldsModels(Protocol):
    """A store of checkpoints that transformers can load."""

    def model_files(self, step: int) -> ModelFiles:
        """The files of a step's model."""
        ...


def digest_of(files: ModelFiles, names: list[str]) -> str:
    """What stands for the content of some files: it is another when one of them changes."""
    facts = [(name, files.sizes[name], files.identity(name)) for name in names if name in files.sizes]
    return hashlib.sha256(repr(facts).encode()).hexdigest()


class LocalFiles:
    """The files of a directory. Links are followed: the cache of huggingface_hub is made of them.

    Args:
        path: The directory.
        digests: Name → digest, where a manifest lists them; other files are then as if they were not there.
    """

    def __init__(self, path: Path, digests: Mapping[str, str] | None = None) -> None:
        self.path, self.where, self.sealed = path, str(path), digests is not None
        self._digests = digests
        self._checked: dict[str, CheckedFile] = {}

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Bytes of each file."""
        files = (entry for entry in sorted(self.path.iterdir()) if entry.is_file())
        known = self._digests
        return {entry.name: entry.stat().st_size for entry in files if known is None or entry.name in known}

    def at(self, name: str) -> str:
        """A file's path."""
        return str(self.path / name)

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object, from a file that stays what it was when it was first read."""
        return checked_json(self._content(name))

    @lru_cache(maxsize=256)  # noqa: B019 - headers only
    def tensors(self, name: str) -> TensorFile:
        """A safetensors file, likewise."""
        return TensorFile.checked(self._content(name))

    def _content(self, name: str) -> CheckedFile:
        """A file of the model. Where nothing says which digest it has, the one found first stays for the analysis."""
        if name not in self._checked:
            try:
                path = self.path.joinpath(*layout.safe_relative_path(name).parts)
                file = CheckedFile(path, None if self._digests is None else self._digests[name])
            except SchemaError as error:
                raise DataError(str(error)) from None
            self._checked.setdefault(name, file)
        return self._checked[name]

    def sha256(self, name: str) -> str:
        """Digest of a file."""
        return self._content(name).sha256

    def unchecked(self, name: str, tensor: str) -> Mapping[str, str]:
        """Nothing: a file is read through before any of it is given out."""
        del name, tensor
        return {}

    def confirms(self, name: str, unchecked: Mapping[str, str]) -> bool | None:
        """Nothing was left open."""
        del name
        return not unchecked

    def identity(self, name: str) -> str:
        """Its digest, or its path and when it was changed."""
        if self._digests is not None:
            return self._digests[name]
        return f"{self.path.resolve() / name}:{(self.path / name).stat().st_mtime_ns}"

    def place(self, name: str, target: Path) -> None:
        """A link to it."""
        self.check(name)
        target.symlink_to((self.path / name).resolve())

    def check(self, name: str) -> None:
        """Compare it with its digest, unless that was done since it was changed last."""
        self._content(name).check()

    def provenance(self) -> dict[str, str]:
        """The directory."""
        return {"path": str(self.path.resolve())}
