"""The files of one checkpoint, wherever they lie: what a model is read from.

A `ModelFiles` gives names and sizes, small documents, and tensors by range; it knows digests and says what could not be
compared with one. What the files mean is `model.py`'s business.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pico_analyze.errors import DataError
from pico_analyze.stores.checked_file import CheckedFile, read_file_range
from pico_analyze.stores.json_file import checked_json
from pico_analyze.stores.lfs import is_pointer
from pico_analyze.stores.safetensors import TensorFile
from pico_analyze.stores.transformers.pickled_files import ALLOW, is_pickle
from pico_schema import SchemaError, layout

if TYPE_CHECKING:
    from pico_analyze.stores.pickled.pickles import Pickles


class ModelFiles(Protocol):
    """The files of one checkpoint."""

    where: str
    """Path or address, for messages."""
    name: str
    """Its directory, branch or tag."""
    sealed: bool
    """Whether `digest` vouches for every byte."""
    pickles_closed: str | None
    """What to do so that pickled weights are opened; None where they are."""
    remade: bool
    """Whether the weights are made of another format when they are first asked for."""

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
        """A safetensors file, or the tensors of a pickle."""
        ...

    def is_pointer(self, name: str) -> bool:
        """Whether a small file is a pointer of git LFS."""
        ...

    def peek(self, name: str) -> TensorFile:
        """A safetensors file whose ranges are given out before anything was compared: for finding out what is wrong."""
        ...

    def sha256(self, name: str) -> str:
        """Digest of a file that was read."""
        ...

    def known_digest(self, name: str) -> str | None:
        """What is equal where contents are, if it is known without reading the file."""
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
class HasFiles(Protocol):
    """A store whose checkpoints are files of models."""

    def files(self, step: int) -> ModelFiles:
        """The files of a step's checkpoint."""
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
        digests: Name → sha256, where a manifest lists them; other files are then as if they were not there.
        pickles: Opens pickled weights; None if they are not to be opened.
        only: The one file of weights that is meant, where that was named.
    """

    remade = False

    def __init__(
        self,
        path: Path,
        digests: Mapping[str, str] | None = None,
        pickles: Pickles | None = None,
        *,
        only: str | None = None,
    ) -> None:
        self.path, self.where = path, str(path if only is None else path / only)
        self.name = path.name if only is None else only
        self.pickles_closed = ALLOW if pickles is None else None
        self._digests, self._pickles, self._only = digests, pickles, only
        self.sealed = digests is not None
        self._checked: dict[str, CheckedFile] = {}

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Bytes of each file."""
        found = {entry.name: entry.stat().st_size for entry in sorted(self.path.iterdir()) if entry.is_file()}
        wanted = found if self._only is None else (self._only, layout.MODEL_CONFIG)
        known = wanted if self._digests is None else self._digests
        return {name: size for name, size in found.items() if name in wanted and name in known}

    def at(self, name: str) -> str:
        """A file's path."""
        return str(self.path / name)

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object, from a file that stays what it was when it was first read."""
        return checked_json(self.content(name))

    def tensors(self, name: str) -> TensorFile:
        """A safetensors file, likewise, or the tensors of a pickle that has stayed so."""
        if not is_pickle(name):
            return self._headers(name)
        if self._pickles is None:
            raise DataError(f"{self.at(name)}: it is a pickle, and unpickling can run code: {ALLOW}")
        return self._pickles.open_checked(self.content(name))

    @lru_cache(maxsize=256)  # noqa: B019 - headers only
    def _headers(self, name: str) -> TensorFile:
        return TensorFile.checked(self.content(name))

    def is_pointer(self, name: str) -> bool:
        """Whether a small file is a pointer of git LFS."""
        return is_pointer(read_file_range(self.path / name, 0, self.sizes[name]))

    def content(self, name: str) -> CheckedFile:
        """A file of the model, compared with its digest. Where nothing says which, the one found first stays for the
        analysis."""
        if name not in self._checked:
            try:
                path = self.path.joinpath(*layout.safe_relative_path(name).parts)
                file = CheckedFile(path, None if self._digests is None else self._digests[name])
            except SchemaError as error:
                raise DataError(str(error)) from None
            self._checked.setdefault(name, file)
        return self._checked[name]

    def peek(self, name: str) -> TensorFile:
        """A safetensors file, as it is; a pickle is opened as a whole."""
        return self.tensors(name) if is_pickle(name) else TensorFile.open(self.path / name)

    def sha256(self, name: str) -> str:
        """Digest of a file."""
        return self.content(name).sha256

    def known_digest(self, name: str) -> str | None:
        """What a manifest says."""
        return None if self._digests is None else self._digests.get(name)

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
        self.content(name).check()

    def provenance(self) -> dict[str, str]:
        """The directory."""
        return {"path": str(self.path.resolve())}
