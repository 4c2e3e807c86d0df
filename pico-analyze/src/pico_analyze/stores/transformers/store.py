"""Any transformers model: one by itself, or the checkpoints of a run, each `config.json` and safetensors. Weights only.

Nothing of a model is executed; pickled weights (`pytorch_model.bin`) are opened only where that was allowed, in a
process of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from pico_analyze.errors import DataError
from pico_analyze.stores.base import Data, Input, ReadOptions, StepInfo, Unusable, WithoutSite
from pico_analyze.stores.shown import Shown
from pico_analyze.stores.transformers.decoder import Decoder, run_suffix
from pico_analyze.stores.transformers.evaluated import evaluated_results
from pico_analyze.stores.transformers.files import ModelFiles, digest_of
from pico_analyze.stores.transformers.model import Model
from pico_analyze.stores.transformers.series import Checkpoint, Series
from pico_analyze.stores.transformers.weight_files import INDEX, configuration, index_of, shape_of, weight_files
from pico_schema import ModelSpec, layout

if TYPE_CHECKING:
    import pandas

_SCALARS = ("train_loss", "val_loss")
_MOST_SHOWN = 12


class TransformersStore(Shown):
    """The models of a series.

    Args:
        location: Path or address that opens it again.
        series: Its checkpoints.
        options: Which tower, and whose names, in place of what configurations say.
        kind: Name of the kind of store that opened it.

    Raises:
        DataError: models of one series have different geometries, or one by itself cannot be read.
    """

    def __init__(self, location: str, series: Series, options: ReadOptions, *, kind: str = "transformers") -> None:
        self.kind, self.location, self.run = kind, location, series.run + run_suffix(options)
        self._series, self._options = series, options
        self._decoders: dict[object, Decoder] = {}
        self._checkpoints = {one.step: one for one in series.checkpoints}
        self._check_geometries()

    def _check_geometries(self) -> None:
        """Refuse models that are no checkpoints of one run."""
        first, *others = self._checkpoints.values() or (None,)
        if first is None:
            return
        model = self._model(first.step)
        for one in others:
            if self._configuration(one) != self._configuration(first):
                other = self._model(one.step)
                if (model.kind, model.spec) != (other.kind, other.spec):
                    raise DataError(
                        f"{self.location}: {first.name} and {one.name} are models of different architectures "
                        f"({_differing(model, other)}): keep one run in a folder, or choose by --step-pattern"
                    )

    def _configuration(self, one: Checkpoint) -> object:
        """What is equal where configurations are the same file."""
        files = one.files
        sealed = files.sealed and layout.MODEL_CONFIG in files.sizes
        return files.identity(layout.MODEL_CONFIG) if sealed else configuration(files)

    @lru_cache(maxsize=8)  # noqa: B019 - one store per analysis; names and headers only
    def _model(self, step: int) -> Model:
        files = self._checkpoint(step).files
        shape = shape_of(files)
        model = Model(files, self._options, self._decoders.get(shape))
        if shape is not None:
            self._decoders.setdefault(shape, model.decoder)
        return model

    def _checkpoint(self, step: int) -> Checkpoint:
        found = self._checkpoints.get(step)
        if found is None:
            known = ", ".join(map(str, list(self._checkpoints)[:_MOST_SHOWN])) or "none"
            raise DataError(f"model {self.run!r} has no step {step}: there are {known}")
        return found

    def files(self, step: int) -> ModelFiles:
        """The files of a step's model."""
        return self._checkpoint(step).files

    @lru_cache(maxsize=1)  # noqa: B019 - one entry per store
    def steps(self) -> tuple[StepInfo, ...]:
        """The checkpoints that can be read, by ascending step."""
        return tuple(self._info(one) for _, one in sorted(self._checkpoints.items()))

    def _info(self, one: Checkpoint) -> StepInfo:
        files, rows = one.files, self._series.rows.get(one.step, {})
        names = list(dict.fromkeys([layout.MODEL_CONFIG, INDEX, index_of(files) or INDEX, *weight_files(files)]))
        return StepInfo(
            step=one.step,
            digest=digest_of(files, names),
            tokens_seen=one.tokens,
            size=sum(files.sizes[name] for name in weight_files(files)),
            weights=tuple(self._model(one.step).decoder.found.sites),
            metrics={name: rows[name] for name in _SCALARS if name in rows},
            sealed=files.sealed,
        )

    def unusable(self) -> tuple[Unusable, ...]:
        """Checkpoints that cannot be read; and blocks beyond those that a model's `config.json` counts, such as a
        predictor of further tokens: they are not of this model."""
        found = list(self._series.unusable)
        if self._checkpoints:
            model = self._model(next(iter(self._checkpoints)))
            reason = f"{layout.MODEL_CONFIG} counts {model.spec.n_layers} blocks"
            found += [Unusable(f"block {layer}", None, reason) for layer in model.decoder.found.beyond]
        return tuple(found)

    model_files = files

    def tensors(self, step: int) -> tuple[str, ...]:
        """The names of all whole matrices and vectors."""
        return self._model(step).decoder.tensors

    def without_site(self, step: int) -> WithoutSite:
        """What is at no site."""
        return self._model(step).decoder.without_site

    def spec(self, step: int) -> ModelSpec:
        """The geometry that `config.json` describes."""
        return self._model(step).spec

    def read(self, step: int, split: str | None, data: Data, site: str) -> np.ndarray:
        """One weight, (out, in)."""
        return self._holding(step, split, data, site).read(site)

    def _holding(self, step: int, split: str | None, data: Data, site: str) -> Model:
        """The model of a step, which holds what is asked for."""
        model = self._model(step)
        if data != "weights" or model.decoder.source(site) is None:
            of = data if split is None else f"{split} {data}"
            raise DataError(
                f"model {self.run!r} holds no {of} at site {site!r}: of a model there are weights only; "
                "`pico-analyze capture` runs it and keeps what else there is"
            )
        return model

    def inputs(self, step: int, split: str | None, data: Data, site: str) -> tuple[Input, ...]:
        """The file that holds the weight, the configuration, and the index of files if there is one."""
        return self._holding(step, split, data, site).inputs(site)

    def confirms(self, step: int, file: str, unchecked: Mapping[str, str]) -> bool | None:
        """Whether ranges that were read before their file was at hand are those of the file."""
        return self._checkpoint(step).files.confirms(file, unchecked)

    def samples(self, step: int, split: str) -> pandas.DataFrame:
        """None: a model captures nothing.

        Raises:
            DataError: always.
        """
        raise DataError(
            f"{self.location}: a transformers model holds no captures, so step {step} has no {split} samples: give a "
            "run, or make one of the model with `pico-analyze capture`"
        )

    @lru_cache(maxsize=1)  # noqa: B019 - one entry per store
    def _measured(self) -> dict[int, dict[str, float]]:
        return evaluated_results(self.location, self._checkpoints.values())

    def evaluations(self) -> dict[int, dict[str, float]]:
        """What a trainer logged at the steps of checkpoints, and what `pico-train evaluate` measured of them.

        Raises:
            DataError: results are damaged, or of another model.
        """
        rows, measured = self._series.rows, self._measured()
        found = {step: {**rows.get(step, {}), **measured.get(step, {})} for step in sorted(self._checkpoints)}
        return {step: values for step, values in found.items() if values}

    def provenance(self, step: int) -> dict[str, str]:
        """Where the model lies, and its type."""
        chosen = {"prefix": self._options.prefix, "architecture": self._options.architecture}
        said = {name: value for name, value in chosen.items() if value is not None}
        return self._checkpoint(step).files.provenance() | {"model_type": self._model(step).kind} | said


def _differing(first: Model, second: Model) -> str:
    """What two geometries differ in."""
    if first.kind != second.kind:
        return f"{first.kind} and {second.kind}"
    one, two = first.spec.model_dump(), second.spec.model_dump()
    return ", ".join(f"{name} {one[name]} and {two[name]}" for name in one if one[name] != two.get(name))
