"""What a run of models is, before one is run: its store, the steps that are meant, where they come from.

Nothing of a model is read here but small files and digests.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from pico_analyze.errors import DataError
from pico_analyze.models.sealing import TEMPORARY
from pico_analyze.models.unpickled import Unpickled
from pico_analyze.questions.question import Selection
from pico_analyze.stores.base import HasManifests, ReadOptions, StepInfo, Store
from pico_analyze.stores.opening import is_address
from pico_analyze.stores.run_names import open_named
from pico_analyze.stores.transformers.files import HoldsModels, ModelFiles
from pico_analyze.stores.transformers.pickled_files import is_pickle
from pico_analyze.stores.transformers.remade import Remade, of_gguf
from pico_analyze.stores.transformers.weight_files import INDEX, fault, holds_gguf, weight_files
from pico_schema import CheckpointManifest, Origin


@dataclass(frozen=True)
class ModelRun:
    """A run whose checkpoints are models."""

    name: str
    """What a person wrote; it opens the run again in another process."""
    options: ReadOptions
    store: Store

    @classmethod
    def open(cls, name: str, options: ReadOptions) -> ModelRun:
        """The run of a name.

        Raises:
            DataError: its checkpoints are no models that transformers loads.
            PicoAnalyzeError: what opening it raises.
        """
        store = open_named(name, options)
        if not isinstance(store, HoldsModels):
            raise DataError(f"{name}: a run of kind {store.kind!r} holds no models that transformers loads")
        return cls(name, options, store)

    def chosen(self, steps: str) -> list[StepInfo]:
        """The steps that a selection names, ascending.

        Raises:
            UsageError: it names one that is not there.
            DataError: there is none at all, or one of them holds captures alone.
        """
        known = {info.step: info for info in self.store.steps()}
        if not known:
            why = "".join(f" (step {one.step}: {one.reason})" for one in self.store.unusable()[:1])
            raise DataError(f"{self.name}: it has no checkpoint that can be read{why}")
        chosen = Selection(steps).pick(sorted(known), what="step", of=f"run {self.store.run!r}")
        for step in chosen:
            manifest = self.manifest(step)
            if manifest is not None and not manifest.weighted_sites:
                where = "" if manifest.origin is None else f": name the run that it is from, {manifest.origin.location}"
                raise DataError(f"{self.name}: step {step} holds captures and no weights{where}")
        return [known[step] for step in chosen]

    def files(self, step: int) -> ModelFiles:
        """The files of a step's model."""
        return self._plain(step)

    @lru_cache(maxsize=2)  # noqa: B019 - one run per command; what was made of a step is asked for several times
    def _plain(self, step: int) -> ModelFiles:
        return _as_safetensors(cast("HoldsModels", self.store).model_files(step))

    def manifest(self, step: int) -> CheckpointManifest | None:
        """What Pico's own manifest says of a step; None for other makers' models."""
        return self.store.checkpoint_manifest(step) if isinstance(self.store, HasManifests) else None

    @property
    def location(self) -> str:
        """Address, or absolute path."""
        here = self.store.location
        return here if is_address(here) else str(Path(here).resolve())

    def origin(self, step: int, digests: dict[str, str]) -> Origin:
        """What a checkpoint made of a step says about where it is from."""
        facts = self.store.provenance(step)
        return Origin(
            location=self.location,
            run=self.store.run,
            revision=facts.get("revision"),
            commit=facts.get("commit"),
            manifest_sha256=facts.get("manifest_sha256"),
            files=digests,
        )

    def small(self, step: int, name: str, room: Path) -> bytes | None:
        """The content of a small file of a step's model, compared with its digest; None where it has none."""
        files = self.files(step)
        if name not in files.sizes:
            return None
        with TemporaryDirectory(prefix=TEMPORARY, dir=room) as directory:
            files.place(name, target := Path(directory, name))
            return target.read_bytes()


def _as_safetensors(files: ModelFiles) -> ModelFiles:
    """The files of a model with weights that transformers loads: none of them a pickle, or of another format."""
    if isinstance(files, Remade):
        return files.made()
    if fault(files) is None and holds_gguf(files):
        return of_gguf(files, weight_files(files)).made()
    if fault(files) is not None or not (names := weight_files(files)) or not all(is_pickle(name) for name in names):
        return files
    return Unpickled(files, names, index=INDEX)


def weights_digests(files: ModelFiles) -> dict[str, str]:
    """Digest of each file of weights: found by reading local ones through, once per content."""
    for name in (names := weight_files(files)):
        files.check(name)
    return {name: files.sha256(name) for name in names}


def check_origin(source: ModelRun, step: int, manifest: CheckpointManifest) -> None:
    """Refuse a sealed step whose model is no longer the one that was captured."""
    assert manifest.origin is not None
    now = weights_digests(source.files(step))
    for name, digest in now.items():
        if manifest.origin.files.get(name) != digest:
            raise DataError(
                f"{source.location}: step {step} has other weights ({name}) than those that were captured: name "
                "another --out"
            )
