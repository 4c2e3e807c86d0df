"""Any transformers model on disk: `config.json` and safetensors. Weights only, one checkpoint, no torch.

Nothing of the model is executed; pickled weights (`pytorch_model.bin`) are not opened.
"""

from __future__ import annotations

import hashlib
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from pico_analyze.errors import DataError
from pico_analyze.stores.base import Data, StepInfo, Unusable
from pico_analyze.stores.json_file import read_json
from pico_analyze.stores.safetensors import TensorFile
from pico_analyze.stores.transformers.architectures import Source, model_spec, sources
from pico_schema import ModelSpec, SchemaError, layout

if TYPE_CHECKING:
    import numpy as np
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

    def __init__(self, path: Path) -> None:
        self.path = path
        self.location = str(path)
        self.run = model_name(path.absolute())
        self._config = read_json(path / layout.MODEL_CONFIG)
        self._spec = model_spec(self._config, where=str(path / layout.MODEL_CONFIG))
        if not self._sources:
            kind = self._config.get("model_type", "unknown")
            raise DataError(
                f"{path}: a {kind} model whose matrices have unknown names: known are those of Llama-like models, "
                "Phi-3, GPT-NeoX, GPT-2 and Pico"
            )

    @cached_property
    def _files(self) -> dict[str, str]:
        """Tensor → file."""
        if (self.path / INDEX).is_file():
            weight_map = read_json(self.path / INDEX).get("weight_map")
            if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
                raise DataError(f"{self.path / INDEX}: it has no map from tensors to files: the index is damaged")
            return weight_map
        single = self.path / layout.WEIGHTS
        chosen = [single] if single.is_file() else sorted(self.path.glob("*.safetensors"))
        return {name: file.name for file in chosen for name in self._file(file.name).tensors}

    @lru_cache(maxsize=256)  # noqa: B019 - headers only
    def _file(self, name: str) -> TensorFile:
        try:
            # Links are followed: the cache of huggingface_hub is made of them. Names may not lead out by themselves.
            return TensorFile.open(self.path.joinpath(*layout.safe_relative_path(name).parts))
        except SchemaError as error:
            raise DataError(str(error)) from None

    @cached_property
    def _sources(self) -> dict[str, Source]:
        found = sources(self._files)
        if "head" not in found and "embed" in found and self._spec.tie_embeddings:
            found["head"] = found["embed"]
        return found

    @lru_cache(maxsize=1)  # noqa: B019 - one entry per store
    def steps(self) -> tuple[StepInfo, ...]:
        """The one checkpoint there is."""
        files = sorted({*self._files.values()})
        stats = [(file, (self.path / file).stat()) for file in files if (self.path / file).is_file()]
        facts = [(file, stat.st_size, stat.st_mtime_ns) for file, stat in stats]
        digest = hashlib.sha256(repr((str(self.path.resolve()), facts)).encode()).hexdigest()
        size = sum(stat.st_size for _, stat in stats)
        return (StepInfo(step=0, digest=digest, size=size, weights=tuple(self._sources)),)

    def unusable(self) -> tuple[Unusable, ...]:
        """Nothing: a model is there or not."""
        return ()

    def spec(self, step: int) -> ModelSpec:
        """The geometry that `config.json` describes."""
        self._check(step)
        return self._spec

    def _check(self, step: int) -> None:
        if step != 0:
            raise DataError(f"model {self.run!r} has no step {step}: a model directory is one checkpoint, step 0")

    def read(self, step: int, split: str | None, data: Data, site: str) -> np.ndarray:
        """One weight, (out, in)."""
        self._check(step)
        source = self._sources.get(site) if data == "weights" else None
        if source is None:
            of = data if split is None else f"{split} {data}"
            raise DataError(f"model {self.run!r} holds no {of} at site {site!r}: of a model there are weights only")
        return source.cut(self._file(self._files[source.tensor]).read(source.tensor), self._spec)

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
        """Where it lies, its type, and what stands for its content."""
        self._check(step)
        kind = str(self._config.get("model_type", "unknown"))
        return {"path": str(self.path.resolve()), "model_type": kind, "files_digest": self.steps()[0].digest}
