"""A checkpoint of another format as the files of a model of transformers, which its own library makes of it.

Names, sizes and digests are those of what it is made of, so that listing a series makes nothing; the model is made when
a tensor of it is first asked for, into a temporary directory, and kept for the time of the analysis.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from pico_analyze.errors import DataError
from pico_analyze.stores.transformers.by_library import made, placed
from pico_analyze.stores.transformers.files import LocalFiles, ModelFiles
from pico_schema import layout

if TYPE_CHECKING:
    from pico_analyze.stores.safetensors import TensorFile

Make = Callable[[], Path]
"""Makes a directory with `model.safetensors`, and `config.json` where it is known."""


class Remade:
    """The files of a model that is made of a checkpoint.

    Args:
        files: The checkpoint's files.
        made_of: Names of those that the weights are made of.
        make: Makes the model.
        base: The files of another model that it is made of too, and whose configuration it has.
        base_of: Names of those of them.
        said: What provenance says of it.
    """

    sealed, remade = False, True

    def __init__(
        self,
        files: ModelFiles,
        made_of: Sequence[str],
        make: Make,
        *,
        base: ModelFiles | None = None,
        base_of: Sequence[str] = (),
        said: Mapping[str, str] | None = None,
    ) -> None:
        self._files, self._made_of, self._make = files, tuple(made_of), make
        self._base, self._base_of, self._said = base, tuple(base_of), dict(said or {})
        self.where, self.name, self.pickles_closed = files.where, files.name, files.pickles_closed
        self._made: LocalFiles | None = None
        self._lock = Lock()

    @property
    def sizes(self) -> Mapping[str, int]:
        """Bytes of each file; of the weights, those of what they are made of."""
        there = {name: size for name, size in self._files.sizes.items() if name not in self._made_of}
        there[layout.WEIGHTS] = sum(size for *_, size in self._sources())
        if self._base is not None:
            there |= {name: self._base.sizes[name] for name in _FROM_BASE if name in self._base.sizes}
        return there

    def _sources(self) -> list[tuple[ModelFiles, str, int]]:
        base = [] if self._base is None else [(self._base, name, self._base.sizes[name]) for name in self._base_of]
        return [(self._files, name, self._files.sizes[name]) for name in self._made_of] + base

    def made(self) -> LocalFiles:
        """The model, as files on a disk.

        Raises:
            DataError: it cannot be made.
        """
        self._check_sources()
        with self._lock:
            if self._made is None:
                directory = self._make()
                for name in self.sizes:
                    if name.endswith(_BESIDE) and name not in self._made_of and not (directory / name).exists():
                        self._owner(name).place(name, directory / name)
                self._made = LocalFiles(directory)
                self._made.where, self._made.name = self.where, self.name
        self._check_sources()
        return self._made

    def _check_sources(self) -> None:
        for files, name, _ in self._sources():
            files.check(name)

    def _owner(self, name: str) -> ModelFiles:
        """Whose a file is that is not made."""
        base = self._base
        return base if base is not None and name in _FROM_BASE and name in base.sizes else self._files

    def at(self, name: str) -> str:
        """A file's path or address; of the weights, the checkpoint's."""
        return self.where if name == layout.WEIGHTS else self._owner(name).at(name)

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object."""
        return self._owner(name).json(name)

    def tensors(self, name: str) -> TensorFile:
        """The weights that were made."""
        file = self.made().tensors(name)
        file.where = self.where
        return file

    def peek(self, name: str) -> TensorFile:
        """Likewise."""
        return self.tensors(name)

    def is_pointer(self, name: str) -> bool:
        """Whether a small file is a pointer of git LFS: none that is made is."""
        return name != layout.WEIGHTS and self._owner(name).is_pointer(name)

    def sha256(self, name: str) -> str:
        """Digest of a file; of the weights, that of the digests of what they are made of."""
        if name != layout.WEIGHTS:
            return self._owner(name).sha256(name)
        digests = "".join(f"{files.sha256(one)}  {one}\n" for files, one, _ in self._sources())
        return hashlib.sha256(digests.encode()).hexdigest()

    def known_digest(self, name: str) -> str | None:
        """What is equal where the tensors are, which are made for it: files of equal tensors differ in other things."""
        return self.made().sha256(name) if name == layout.WEIGHTS else self._owner(name).known_digest(name)

    def unchecked(self, name: str, tensor: str) -> Mapping[str, str]:
        """Nothing: what the weights are made of is read through before."""
        del name, tensor
        return {}

    def confirms(self, name: str, unchecked: Mapping[str, str]) -> bool | None:
        """Nothing was left open."""
        del name
        return not unchecked

    def identity(self, name: str) -> str:
        """What changes when the content of a file does."""
        if name != layout.WEIGHTS:
            return self._owner(name).identity(name)
        return "; ".join(files.identity(one) for files, one, _ in self._sources())

    def place(self, name: str, target: Path) -> None:
        """A file as a whole."""
        (self.made() if name == layout.WEIGHTS else self._owner(name)).place(name, target)

    def check(self, name: str) -> None:
        """Raise DataError if a file, or what the weights are made of, is no longer what it was."""
        if name == layout.WEIGHTS:
            self._check_sources()
        else:
            self._owner(name).check(name)

    def provenance(self) -> dict[str, str]:
        """Where the checkpoint lies, and what its weights are made of."""
        of = {"made_of": ", ".join(self._made_of)}
        base = {} if self._base is None else {"base": self._base.where}
        return self._files.provenance() | of | base | self._said


def of_gguf(files: ModelFiles, names: Sequence[str]) -> Remade:
    """The model of transformers that files of GGUF are: its own reader makes it, dequantized where that is needed.

    Args:
        files: The checkpoint's files.
        names: The file of GGUF, or its parts.
    """

    def make() -> Path:
        if len(names) > 1:
            raise DataError(
                f"{files.where}: its GGUF is in {len(names)} files, and transformers reads one: bring them together by "
                f"`llama-gguf-split --merge {names[0]} OUT.gguf`"
            )
        size = sum(files.sizes[name] for name in names)
        needs = dict.fromkeys(("torch", "transformers", "gguf", "accelerate"), "pip install 'pico-analyze[gguf]'")
        request = {"gguf": str(placed(files, list(names)) / names[0])}
        return made(request, where=files.where, size=size, needs=needs)

    return Remade(files, names, make)


_BESIDE = (".json", ".txt", ".model")
"""How names end of what belongs to a model beside its weights."""
_FROM_BASE = (layout.MODEL_CONFIG, layout.GENERATION_CONFIG)
