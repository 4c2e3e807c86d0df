"""A model whose weights are pickled, as one whose weights are safetensors: transformers is never shown a pickle.

A pickle's tensors were taken out of it by a process with limits (`stores.pickled`), into a file of safetensors that is
put in its place, under a name of its own.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pico_analyze.errors import DataError, StorageError
from pico_analyze.stores.transformers.pickled_files import is_pickle
from pico_schema import layout
from pico_schema.digests import sha256_file

if TYPE_CHECKING:
    from pico_analyze.stores.safetensors import TensorFile
    from pico_analyze.stores.transformers.files import ModelFiles


class Unpickled:
    """The files of a model with safetensors in the place of its pickles.

    Args:
        files: The files.
        pickled: Names of the pickles that are its weights.
        index: What transformers calls the file that says which tensor is in which file, where there are several.
    """

    def __init__(self, files: ModelFiles, pickled: list[str], *, index: str) -> None:
        self._files, self._index_name = files, index
        self.where, self.name, self.sealed = files.where, files.name, False
        self.pickles_closed = files.pickles_closed
        named = [layout.WEIGHTS] if len(pickled) == 1 else [f"{name}.safetensors" for name in pickled]
        self._pickled = dict(zip(named, pickled, strict=True))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)  # what is not about weights is theirs

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Bytes of each file; of weights, those of the pickles."""
        there = {name: size for name, size in self._files.sizes.items() if not is_pickle(name)}
        weights = {name: self._files.sizes[pickle] for name, pickle in self._pickled.items()}
        return there | weights | ({self._index_name: len(self._index)} if len(weights) > 1 else {})

    @cached_property
    def _map(self) -> dict[str, Any]:
        """Which tensor is in which file, as an index has it."""
        return {
            "metadata": {},
            "weight_map": {key: name for name in self._pickled for key in self.tensors(name).tensors},
        }

    @cached_property
    def _index(self) -> bytes:
        return json.dumps(self._map).encode()

    def at(self, name: str) -> str:
        """The path or address of a file, or of the pickle that it stands for."""
        return self._files.at(self._pickled.get(name, name))

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object."""
        return self._map if name == self._index_name else self._files.json(name)

    def tensors(self, name: str) -> TensorFile:
        """The tensors of a file, or of the pickle that it stands for."""
        return self._files.tensors(self._pickled.get(name, name))

    def peek(self, name: str) -> TensorFile:
        """Likewise: a pickle is opened as a whole."""
        return self.tensors(name) if name in self._pickled else self._files.peek(name)

    def is_pointer(self, name: str) -> bool:
        """Whether a small file is a pointer of git LFS."""
        return self._files.is_pointer(self._pickled.get(name, name))

    def sha256(self, name: str) -> str:
        """Digest of a file, of weights that of the tensors that were taken out."""
        if name == self._index_name:
            return hashlib.sha256(self._index).hexdigest()
        return sha256_file(self._taken_out(name)) if name in self._pickled else self._files.sha256(name)

    def identity(self, name: str) -> str:
        """What changes when the content of a file does."""
        return self.sha256(name) if name == self._index_name else self._files.identity(self._pickled.get(name, name))

    def place(self, name: str, target: Path) -> None:
        """Put a file as a whole where nothing is yet."""
        try:
            if name == self._index_name:
                target.write_bytes(self._index)
            elif name in self._pickled:
                shutil.copyfile(self._taken_out(name), target)
            else:
                self._files.place(name, target)
        except OSError as error:
            raise StorageError(f"{target}: writing failed ({error.strerror or error}): check the disk") from None

    def check(self, name: str) -> None:
        """Raise DataError if a file, or the pickle that it stands for, is no longer what it was."""
        if name in self._pickled:
            self.tensors(name)
        elif name != self._index_name:
            self._files.check(name)

    def _taken_out(self, name: str) -> Path:
        file = self.tensors(name)
        if file.path is None:
            raise DataError(f"{file.where}: its tensors lie in no file")
        return file.path
