"""Any transformers model on disk: `config.json` and safetensors. Weights only, one checkpoint, no torch.

Nothing of the model is executed; pickled weights (`pytorch_model.bin`) are not opened.
"""

from __future__ import annotations

import hashlib
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pico_analyze.errors import DataError
from pico_analyze.stores.base import Data, Input, ReadOptions, StepInfo, Unusable, WithoutSite
from pico_analyze.stores.checked_file import CheckedFile
from pico_analyze.stores.json_file import checked_json
from pico_analyze.stores.safetensors import TensorFile
from pico_analyze.stores.transformers.architecture import Source
from pico_analyze.stores.transformers.decoder import Decoder, run_suffix
from pico_schema import ModelSpec, SchemaError, layout
from pico_schema.tensor_header import TensorEntry

if TYPE_CHECKING:
    import pandas

INDEX = "model.safetensors.index.json"


def model_name(path: Path) -> str:
    """The directory's name; in a cache of huggingface_hub, where that is a commit, the model's name and the commit."""
    folder = path.parent.parent.name
    if path.parent.name == "snapshots" and folder.startswith("models--"):
        return f"{folder.rpartition('--')[2]}-{path.name[:8]}"
    return path.resolve().name or "model"


class TransformersStore:
    """A model directory: one checkpoint, step 0."""

    kind = "transformers"

    def __init__(self, path: Path, options: ReadOptions | None = None) -> None:
        self.path, self._options = path, options or ReadOptions()
        self.location = str(path)
        self.run = model_name(path.absolute()) + run_suffix(self._options)
        self._checked: dict[str, CheckedFile] = {}
        self._config = checked_json(self._content(layout.MODEL_CONFIG))
        self._decoder = Decoder(self._config, self._tensors, self._options, where=str(path))

    @property
    def _spec(self) -> ModelSpec:
        return self._decoder.spec

    @property
    def _tensors(self) -> dict[str, TensorEntry]:
        """Tensor → its entry in the header of its file."""
        found: dict[str, TensorEntry] = {}
        for name, file in self._files.items():
            if (entry := self._file(file).tensors.get(name)) is None:
                raise DataError(f"{self.path / INDEX}: tensor {name[:200]!r} is not in {file}, where it says: damaged")
            found[name] = entry
        return found

    @cached_property
    def _files(self) -> dict[str, str]:
        """Tensor → file."""
        single = self.path / layout.WEIGHTS
        if (self.path / INDEX).is_file() and not single.is_file():  # in this order transformers looks for them
            weight_map = checked_json(self._content(INDEX)).get("weight_map")
            if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
                raise DataError(f"{self.path / INDEX}: it has no map from tensors to files: the index is damaged")
            return weight_map
        found: dict[str, str] = {}
        for file in [single] if single.is_file() else sorted(self.path.glob("*.safetensors")):
            for name in self._file(file.name).tensors:
                if found.setdefault(name, file.name) != file.name:
                    raise DataError(
                        f"{self.path}: tensor {name[:200]!r} is in two files, {found[name]} and {file.name}, and no "
                        f"{INDEX} says which one is meant: keep one of them"
                    )
        return found

    def _content(self, name: str) -> CheckedFile:
        """A file of the model. Nothing says which digest it has: the one found first stays for the analysis."""
        if name not in self._checked:
            try:
                # Links are followed: huggingface_hub's cache is made of them. Names may not lead out by themselves.
                file = CheckedFile(self.path.joinpath(*layout.safe_relative_path(name).parts))
            except SchemaError as error:
                raise DataError(str(error)) from None
            self._checked.setdefault(name, file)
        return self._checked[name]

    @lru_cache(maxsize=256)  # noqa: B019 - headers only
    def _file(self, name: str) -> TensorFile:
        return TensorFile.checked(self._content(name))

    @lru_cache(maxsize=1)  # noqa: B019 - one entry per store
    def steps(self) -> tuple[StepInfo, ...]:
        """The one checkpoint there is."""
        files = sorted({*self._files.values()})
        stats = [(file, (self.path / file).stat()) for file in files if (self.path / file).is_file()]
        facts = [(file, stat.st_size, stat.st_mtime_ns) for file, stat in stats]
        digest = hashlib.sha256(repr((str(self.path.resolve()), facts)).encode()).hexdigest()
        size = sum(stat.st_size for _, stat in stats)
        return (StepInfo(step=0, digest=digest, size=size, weights=tuple(self._decoder.found.sites), sealed=False),)

    def unusable(self) -> tuple[Unusable, ...]:
        """Blocks beyond those that `config.json` counts, such as a predictor of further tokens: not of this model."""
        beyond = self._decoder.found.beyond
        reason = f"{layout.MODEL_CONFIG} counts {self._spec.n_layers} blocks"
        return tuple(Unusable(f"block {layer}", None, reason) for layer in beyond)

    def tensors(self, step: int) -> tuple[str, ...]:
        """The names of all whole matrices and vectors."""
        self._check(step)
        return self._decoder.tensors

    def without_site(self, step: int) -> WithoutSite:
        """What is at no site."""
        self._check(step)
        return self._decoder.without_site

    def spec(self, step: int) -> ModelSpec:
        """The geometry that `config.json` describes."""
        self._check(step)
        return self._spec

    def _check(self, step: int) -> None:
        if step != 0:
            raise DataError(f"model {self.run!r} has no step {step}: a model directory is one checkpoint, step 0")

    def read(self, step: int, split: str | None, data: Data, site: str) -> np.ndarray:
        """One weight, (out, in)."""
        source = self._source(step, split, data, site)
        weight = self._weight(source)
        if site == "head" and self._spec.tie_embeddings and source != self._decoder.source("embed"):
            self._check_tied(source, weight)
        return weight

    def _weight(self, source: Source) -> np.ndarray:
        file = self._file(self._files[source.tensor])
        try:
            return source.cut(file.read(source.tensor, source.expert), self._spec)
        except DataError as error:
            at = f"{file.where}: tensor {source.tensor[:200]!r}"
            raise error if str(error).startswith(file.where) else DataError(f"{at}: {error}") from None

    def _check_tied(self, source: Source, head: np.ndarray) -> None:
        """Refuse a head of its own where the configuration says that the head is the embedding, unless it is that."""
        embed = self._decoder.source("embed")
        if embed is not None and not np.array_equal(head, self._weight(embed), equal_nan=True):
            raise DataError(
                f"{self.path}: {layout.MODEL_CONFIG} says that the head is the embedding ({embed.tensor}), and "
                f"{source.tensor} holds other numbers: set tie_word_embeddings to what the model does"
            )

    def _source(self, step: int, split: str | None, data: Data, site: str) -> Source:
        self._check(step)
        source = self._decoder.source(site) if data == "weights" else None
        if source is None:
            of = data if split is None else f"{split} {data}"
            raise DataError(f"model {self.run!r} holds no {of} at site {site!r}: of a model there are weights only")
        return source

    def inputs(self, step: int, split: str | None, data: Data, site: str) -> tuple[Input, ...]:
        """The file that holds the weight, the configuration, and the index of files if there is one."""
        source = self._source(step, split, data, site)
        embed = self._decoder.source("embed") if site == "head" else None
        used = [source] if embed is None else [source, embed]
        names = [*(self._files[one.tensor] for one in used), layout.MODEL_CONFIG]
        names += [INDEX] if INDEX in self._checked else []
        of = {names[0]: str(source)}
        return tuple(Input(name, self._content(name).sha256, of=of.get(name, "")) for name in dict.fromkeys(names))

    def samples(self, step: int, split: str) -> pandas.DataFrame:
        """None: a model captures nothing.

        Raises:
            DataError: always.
        """
        raise DataError(
            f"{self.path}: a transformers model holds no captures, so step {step} has no {split} samples: give a run"
        )

    def evaluations(self) -> dict[int, dict[str, float]]:
        """None are kept with a model."""
        return {}

    def provenance(self, step: int) -> dict[str, str]:
        """Where it lies, and its type."""
        self._check(step)
        kind = str(self._config.get("model_type", "unknown"))
        chosen = {"prefix": self._options.prefix, "architecture": self._options.architecture}
        said = {name: value for name, value in chosen.items() if value is not None}
        return {"path": str(self.path.resolve()), "model_type": kind, **said}
