"""One transformers model: its geometry, which tensor is which site, and its weights. No torch, and nothing is executed.

What is read are `config.json`, the index of shards if there is one, and safetensors by range, or the tensors that
another process took out of a pickle.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pico_analyze.errors import DataError
from pico_analyze.stores.base import Input, ReadOptions
from pico_analyze.stores.transformers.architecture import Source
from pico_analyze.stores.transformers.decoder import Decoder
from pico_analyze.stores.transformers.files import ModelFiles
from pico_analyze.stores.transformers.weight_files import INDEX, configuration, index_of, shards, weight_files
from pico_schema import ModelSpec, layout
from pico_schema.tensor_header import TensorEntry

if TYPE_CHECKING:
    from pico_analyze.stores.safetensors import TensorFile


class Model:
    """The model that a checkpoint's files hold.

    Args:
        files: The files.
        options: Which tower, and whose names, in place of what the configuration says.
        decoder: What another checkpoint of the same configuration and the same tensors came to, so that no headers are
            read for it.
    """

    def __init__(self, files: ModelFiles, options: ReadOptions, decoder: Decoder | None = None) -> None:
        self.files = files
        self.config: dict[str, Any] = configuration(files)
        self.decoder = decoder or Decoder(self.config, self._entries(), options, where=files.where)

    @property
    def spec(self) -> ModelSpec:
        """Its geometry."""
        return self.decoder.spec

    @property
    def kind(self) -> str:
        """What its configuration calls the architecture."""
        return str(self.config.get("model_type", "unknown"))

    @cached_property
    def weight_map(self) -> dict[str, str]:
        """Tensor → file."""
        files = self.files
        if (index := index_of(files)) is not None:
            return shards(files, index)
        found: dict[str, str] = {}
        for file in weight_files(files):
            for name in files.tensors(file).tensors:
                if found.setdefault(name, file) != file:
                    raise DataError(
                        f"{files.where}: tensor {name[:200]!r} is in two files, {found[name]} and {file}, and no "
                        f"{INDEX} says which one is meant: keep one of them"
                    )
        return found

    def _entries(self) -> dict[str, TensorEntry]:
        """Tensor → its entry in the header of its file."""
        found: dict[str, TensorEntry] = {}
        for name, file in self.weight_map.items():
            if (entry := self.files.tensors(file).tensors.get(name)) is None:
                index = self.files.at(index_of(self.files) or file)
                raise DataError(f"{index}: tensor {name[:200]!r} is not in {file}, where it says: damaged")
            found[name] = entry
        return found

    def read(self, site: str) -> np.ndarray:
        """A site's weight, (out, in).

        Raises:
            DataError: it is not there, or its file is damaged.
        """
        source = self.source(site)
        weight = self._weight(source)
        if site == "head" and self.spec.tie_embeddings and source != self.decoder.source("embed"):
            self._check_tied(source, weight)
        return weight

    def source(self, site: str) -> Source:
        """Where a site's weight is.

        Raises:
            DataError: it is not there.
        """
        source = self.decoder.source(site)
        if source is None or source.tensor not in self.weight_map:
            raise DataError(f"{self.files.where}: it holds no weights at site {site!r}")
        return source

    def _weight(self, source: Source) -> np.ndarray:
        file = self.files.tensors(self.weight_map[source.tensor])
        try:
            return source.cut(self._array(file, source), self.spec)
        except DataError as error:
            at = f"{file.where}: tensor {source.tensor[:200]!r}"
            raise error if str(error).startswith(file.where) else DataError(f"{at}: {error}") from None

    def _array(self, file: TensorFile, source: Source) -> np.ndarray:
        """A tensor, or what one expert has of it."""
        entry = file.tensors.get(source.tensor)
        if source.expert is None or entry is None or len(entry.shape) != 2:
            return file.read(source.tensor, source.expert)
        rows = entry.shape[0] // (self.decoder.spec.n_experts or 1)
        return file.read_rows(source.tensor, source.expert * rows, rows)

    def _check_tied(self, source: Source, head: np.ndarray) -> None:
        """Refuse a head of its own where the configuration says that the head is the embedding, unless it is that."""
        embed = self.decoder.source("embed")
        if embed is not None and not np.array_equal(head, self._weight(embed), equal_nan=True):
            raise DataError(
                f"{self.files.where}: {layout.MODEL_CONFIG} says that the head is the embedding ({embed.tensor}), and "
                f"{source.tensor} holds other numbers: set tie_word_embeddings to what the model does"
            )

    def inputs(self, site: str) -> tuple[Input, ...]:
        """The files that a site's weight depends on: of tensors, the configuration, and the index if there is one."""
        source, files = self.source(site), self.files
        embed = self.decoder.source("embed") if site == "head" else None
        unchecked: dict[str, dict[str, str]] = {}
        for one in [source] if embed is None else [source, embed]:
            name = self.weight_map[one.tensor]
            unchecked.setdefault(name, {}).update(files.unchecked(name, one.tensor))
        names = [*unchecked, layout.MODEL_CONFIG, index_of(files)]
        of, there = {names[0]: str(source)}, [name for name in names if name is not None and name in files.sizes]
        return tuple(Input(name, files.sha256(name), unchecked.get(name, {}), of=of.get(name, "")) for name in there)
