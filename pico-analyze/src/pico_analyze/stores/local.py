"""Pico's own runs on disk: `run.json`, and a sealed directory per checkpoint.

A checkpoint counts when its manifest is there, is the one that `run.json` lists, and the files that analysis reads have
the sizes it says; everything else is reported as unusable, with the reason. A file that is read is compared with the
digest that the manifest holds of it, once per content. Nothing outside of the run's directory is read: links that lead
out of it are refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pico_analyze.errors import DataError
from pico_analyze.stored import in_rows
from pico_analyze.stores.base import Data, Input, SplitInfo, StepInfo, Unusable
from pico_analyze.stores.checked_file import CheckedFile, file_size, read_small
from pico_analyze.stores.safetensors import TensorFile
from pico_analyze.stores.samples import Files, TokenRows, captured_samples, positions_of, read_whole, stored_rows
from pico_analyze.stores.seals import BrokenSeal, unlike_on_disk
from pico_analyze.stores.set_aside import SetAside, set_aside
from pico_analyze.stores.shown import Shown
from pico_analyze.stores.training_log import logged_losses, logged_values
from pico_analyze.stores.transformers.files import LocalFiles
from pico_schema import (
    CheckpointManifest,
    Evaluation,
    FileEntry,
    Membership,
    ModelSpec,
    Parent,
    RunManifest,
    SchemaError,
    documents,
    layout,
)
from pico_schema.results import flat_results

if TYPE_CHECKING:
    import pandas


def step_info(manifest: CheckpointManifest, digest: str) -> StepInfo:
    """What a manifest says a checkpoint holds; `digest` is the manifest's own sha256."""
    splits: dict[str, SplitInfo] = {
        capture.split: SplitInfo(
            capture.activations, capture.gradients, capture.n_samples, capture.samples_sha256, capture.noise
        )
        for capture in manifest.captures
    }
    return StepInfo(
        step=manifest.step,
        digest=digest,
        tokens_seen=manifest.tokens_seen,
        size=manifest.size,
        weights=manifest.weighted_sites,
        splits=splits,
        metrics=dict(manifest.metrics),
    )


def tensor_place(manifest: CheckpointManifest, split: str | None, data: Data, site: str) -> tuple[str, str]:
    """File (relative to the checkpoint) and tensor name of one matrix.

    Raises:
        DataError: the checkpoint does not hold it.
    """
    if data == "weights":
        if site in manifest.weights:
            return layout.WEIGHTS, manifest.weights[site]
        if site in manifest.weight_slices:
            return layout.WEIGHTS, manifest.weight_slices[site].tensor
    else:
        capture = manifest.capture(split or "")
        if capture is not None:
            held, name = {
                "activations": (capture.activations, layout.activation_tensor(site)),
                "gradients": (capture.gradients, layout.gradient_tensor(site)),
            }.get(data, (capture.noise, layout.noise_tensor(site)))
            if site in held:
                return capture.file, name
    of = data if data == "weights" else f"{split} {data}"
    raise DataError(f"run {manifest.run_name!r} step {manifest.step} holds no {of} at site {site!r}")


def check_shape(array: np.ndarray, manifest: CheckpointManifest, split: str | None, data: Data, *, where: str) -> None:
    """Check that activations have as many rows as the manifest says, and that everything is a matrix or a vector."""
    capture = manifest.capture(split or "")
    if data == "activations" and capture is not None and (array.ndim != 2 or len(array) != capture.n_samples):
        raise DataError(f"{where}: shape {array.shape}, but the manifest says {capture.n_samples} samples")


def taken_out(array: np.ndarray, manifest: CheckpointManifest, data: Data, site: str, *, where: str) -> np.ndarray:
    """A site's weight, out of the tensor that `tensor_place` names; whatever else is read, as it is.

    Raises:
        DataError: the tensor is not as large as the manifest says.
    """
    part = manifest.weight_slices.get(site) if data == "weights" else None
    if part is None:
        return array
    rows = array.T if part.transposed else array
    size, rest = divmod(len(rows), part.groups)
    if array.ndim != 2 or rest or not part.start < part.stop <= size:
        raise DataError(f"{where}: tensor {part.tensor[:200]!r} of shape {array.shape} does not hold site {site!r}")
    return in_rows(rows.reshape(part.groups, size, -1)[:, part.start : part.stop].reshape(-1, rows.shape[1]))


class LocalStore(Shown):
    """A run directory written by pico-train."""

    kind = "pico"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.location = str(path)
        where = path / layout.RUN_MANIFEST
        try:
            self.manifest: RunManifest = documents.parse(_content(where), RunManifest, where=str(where))
        except SchemaError as error:
            raise DataError(str(error)) from None
        self.run = self.manifest.name

    @cached_property
    def _checkpoints(self) -> tuple[dict[int, tuple[CheckpointManifest, str, Path]], list[Unusable]]:
        """Manifest, its digest and the directory by step; and what is not usable."""
        usable: dict[int, tuple[CheckpointManifest, str, Path]] = {}
        unusable: list[Unusable] = []
        for step, directory in self._directories():
            found = self._sealed(step, directory)
            if isinstance(found, str):
                unusable.append(Unusable(directory.name, step, found))
            else:
                usable[step] = (*found, directory)
        there = {*usable, *(item.step for item in unusable)}
        unusable += [
            Unusable(
                layout.step_dir(entry.step), entry.step, f"missing: {layout.RUN_MANIFEST} lists it, but it is gone"
            )
            for entry in self.manifest.checkpoints
            if entry.step not in there
        ]
        root = self.path / layout.CHECKPOINTS
        if root.is_dir():
            for entry in sorted(root.glob(".tmp-step-*")):
                digits = entry.name.removeprefix(".tmp-step-")[:8]
                step_or_none = int(digits) if digits.isdigit() else None
                unusable.append(Unusable(entry.name, step_or_none, "unfinished: it was still being written"))
        return usable, unusable

    def _directories(self) -> Iterator[tuple[int, Path]]:
        """Step and place of whatever is called like a checkpoint, links that lead nowhere included."""
        root = self.path / layout.CHECKPOINTS
        entries = root.iterdir() if root.is_dir() else ()
        named = ((layout.parse_step_dir(entry.name), entry) for entry in entries if _is_place(entry))
        yield from sorted((step, entry) for step, entry in named if step is not None)

    def _sealed(self, step: int, directory: Path) -> tuple[CheckpointManifest, str] | str:
        """The manifest of a checkpoint and its digest, or why it cannot be used."""
        if not directory.resolve().is_relative_to(self.path.resolve()):
            return "a symbolic link that leaves the run: it is not followed; put the checkpoint itself in its place"
        path = directory / layout.MANIFEST
        if not path.is_file():
            return f"incomplete: it has no {layout.MANIFEST}"
        try:
            content = _content(self._inside(directory, layout.MANIFEST))
            manifest = documents.parse(content, CheckpointManifest, where=layout.MANIFEST)
        except (SchemaError, DataError) as error:
            return str(error)
        digest = hashlib.sha256(content).hexdigest()
        listed = next((entry.manifest_sha256 for entry in self.manifest.checkpoints if entry.step == step), digest)
        reason = self._fault(manifest, step, directory)
        if not reason and listed != digest:
            reason = f"{layout.MANIFEST} is not the one that {layout.RUN_MANIFEST} lists: it was altered"
        return reason or (manifest, digest)

    def _fault(self, manifest: CheckpointManifest, step: int, directory: Path) -> str:
        """Why a checkpoint with a manifest cannot be used, or an empty text."""
        if manifest.step != step:
            return f"its manifest is that of step {manifest.step}"
        if manifest.run_id != self.manifest.id:
            return "its manifest belongs to another run"
        needed = [layout.WEIGHTS] if manifest.weighted_sites else []
        for path in [*needed, *(capture.file for capture in manifest.captures)]:
            entry = manifest.files.get(path)
            if entry is None:
                return f"its manifest does not list {path}"
            try:
                size = file_size(self._inside(directory, path))
            except DataError:
                return f"{path} is missing"
            if size != entry.size:
                return f"{path} has {size} bytes, the manifest says {entry.size}"
        return ""

    @lru_cache(maxsize=1)  # noqa: B019 - one entry per store, which lives as long as the analysis
    def steps(self) -> tuple[StepInfo, ...]:
        """The complete checkpoints, by ascending step."""
        usable, _ = self._checkpoints
        return tuple(step_info(manifest, digest) for _, (manifest, digest, _) in sorted(usable.items()))

    def unusable(self) -> tuple[Unusable, ...]:
        """Checkpoint directories without a manifest, or whose files are not what it says."""
        return tuple(self._checkpoints[1])

    def set_aside(self) -> tuple[SetAside, ...]:
        """Steps that belong to another trajectory."""
        return set_aside(self.path)

    def membership(self) -> Membership | None:
        """The suite that the run is of."""
        return self.manifest.suite

    def parent(self) -> Parent | None:
        """The checkpoint that it was forked from."""
        return self.manifest.parent

    @property
    def _root(self) -> Path:
        """Where the files lie that a run has once: validation rows and evaluations."""
        return self.path

    def _inside(self, directory: Path, path: str) -> Path:
        """A file of a directory, which does not lead out of it.

        Raises:
            DataError: it does, or its path is unsafe.
        """
        try:
            return layout.inside(directory, path)
        except SchemaError as error:
            raise DataError(str(error)) from None

    def _checkpoint(self, step: int) -> tuple[CheckpointManifest, str, Path]:
        found = self._checkpoints[0].get(step)
        if found is None:
            raise DataError(f"run {self.run!r} has no complete checkpoint of step {step}")
        return found

    def spec(self, step: int) -> ModelSpec:
        """The model's geometry."""
        return self._checkpoint(step)[0].model

    @lru_cache(maxsize=64)  # noqa: B019 - headers only
    def _file(self, step: int, path: str) -> TensorFile:
        return TensorFile.checked(self._content(step, path))

    @lru_cache(maxsize=64)  # noqa: B019 - so many as files above
    def _content(self, step: int, path: str) -> CheckedFile:
        manifest, _, directory = self._checkpoint(step)
        return CheckedFile(self._inside(directory, path), manifest.files[path].sha256)

    def read(self, step: int, split: str | None, data: Data, site: str) -> np.ndarray:
        """One tensor, by range, from a file that has the content that was sealed."""
        manifest = self._checkpoint(step)[0]
        path, name = tensor_place(manifest, split, data, site)
        file = self._file(step, path)
        array = taken_out(file.read(name), manifest, data, site, where=file.where)
        check_shape(array, manifest, split, data, where=f"{file.where}: tensor {name!r}")
        return array

    def positions(self, step: int, split: str) -> int:
        """Positions kept in each row of a capture."""
        return positions_of(self.checkpoint_manifest(step), split)

    def samples(self, step: int, split: str) -> pandas.DataFrame:
        """The tokens of a capture, from the run's validation rows or the checkpoint's batch."""
        manifest, _, directory = self._checkpoint(step)

        def content(path: str, _: FileEntry) -> bytes:
            return read_whole(self._inside(self._root if path == layout.VALIDATION_ROWS else directory, path))

        def metadata(path: str) -> Mapping[str, str]:
            self._content(step, path).check()
            return self._file(step, path).metadata

        files = Files(lambda: self.manifest, metadata, content)
        return captured_samples(files, manifest, split, where=str(directory))

    def files(self, step: int) -> LocalFiles:
        """The files of a step's checkpoint."""
        manifest, _, directory = self._checkpoint(step)
        return LocalFiles(directory, {path: entry.sha256 for path, entry in manifest.files.items()})

    def broken_seals(self, step: int) -> tuple[BrokenSeal, ...]:
        """The files that are not those that the manifest lists."""
        manifest, _, directory = self._checkpoint(step)
        return unlike_on_disk(manifest, lambda path: self._inside(directory, path))

    def inputs(self, step: int, split: str | None, data: Data, site: str) -> tuple[Input, ...]:
        """The file that holds the tensor."""
        manifest = self._checkpoint(step)[0]
        path, _ = tensor_place(manifest, split, data, site)
        return (Input(path, manifest.files[path].sha256),)

    def checkpoint_manifest(self, step: int) -> CheckpointManifest:
        """The manifest of a step."""
        return self._checkpoint(step)[0]

    def validation_rows(self) -> TokenRows | None:
        """The validation rows that are stored with the run; None where there are none."""
        listed = self.manifest.validation
        if listed is None:
            return None
        path = self._inside(self._root, layout.VALIDATION_ROWS)
        return stored_rows(read_whole(path), listed, where=str(path))

    def batch_rows(self, step: int) -> TokenRows | None:
        """The batch that a step's update was taken on; None where the checkpoint does not hold it."""
        manifest, _, directory = self._checkpoint(step)
        if (entry := manifest.files.get(layout.TRAIN_BATCH)) is None:
            return None
        path = self._inside(directory, layout.TRAIN_BATCH)
        return stored_rows(read_whole(path), entry, where=str(path))

    model_files = files

    def logged_losses(self) -> dict[int, float]:
        """Training loss by step, as `metrics.jsonl` has it."""
        return logged_losses(self._root)

    def logged_values(self) -> dict[str, dict[int, float]]:
        """Every number in `metrics.jsonl`, by name and step."""
        return logged_values(self._root)

    def run_manifest(self) -> RunManifest:
        """What the run says of itself."""
        return self.manifest

    def evaluations(self) -> dict[int, dict[str, float]]:
        """The manifests' scalars and `evaluations/step-N.json`, by step."""
        results: dict[int, dict[str, float]] = {}
        for step, (manifest, digest, _) in sorted(self._checkpoints[0].items()):
            results[step] = {name: value for name, value in manifest.metrics.items() if value is not None}
            path = self._inside(self._root, layout.evaluation_file(step))
            if path.is_file():
                try:
                    found = documents.parse(_content(path), Evaluation, where=str(path))
                    results[step] |= flat_results(found.tasks)
                except SchemaError as error:
                    raise DataError(_at(path, str(error))) from None
                if (found.run_id, found.step, found.manifest_sha256) != (self.manifest.id, step, digest):
                    raise DataError(
                        f"{path}: results of another checkpoint than the one at step {step}: evaluate that one again, "
                        "or move the file away"
                    )
        return results

    def provenance(self, step: int) -> dict[str, str]:
        """Run id and manifest digest."""
        _, digest, _ = self._checkpoint(step)
        return {"run_id": self.manifest.id, "manifest_sha256": digest}


def _content(path: Path) -> bytes:
    return read_small(path, documents.MAX_DOCUMENT)


def _at(path: Path, message: str) -> str:
    return message if message.startswith(str(path)) else f"{path}: {message}"


def _is_place(entry: Path) -> bool:
    return entry.is_dir() or entry.is_symlink()
