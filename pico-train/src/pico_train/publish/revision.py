"""What a revision consists of: the files of a checkpoint, the run's documents as they stood at that step, the card.

The content of a revision follows from the run on disk and from what was published before, so that any publisher makes
the same one. A checkpoint whose files do not have the digests that were sealed is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pico_schema import (
    CheckpointManifest,
    Evaluation,
    RevisionIndex,
    RunManifest,
    SchemaError,
    TensorHeaderError,
    documents,
    layout,
    read_checkpoint,
    read_run,
)
from pico_schema.digests import git_blob_id, sha256_file
from pico_schema.results import flat_results
from pico_train.checkpoint import metrics_log, validation_rows
from pico_train.errors import CheckpointError
from pico_train.finite import first_nonfinite_in
from pico_train.publish.remote import RemoteFile

SMALL = 1 << 20


@dataclass(frozen=True)
class LocalFile:
    """A file of a revision: on disk or in memory, with the digests that a listing is compared with."""

    size: int
    sha256: str
    path: Path | None = None
    content: bytes = b""

    def same_as(self, remote: RemoteFile | None) -> bool:
        """Whether the Hub holds this content already."""
        if remote is None or remote.size != self.size:
            return False
        if remote.sha256 is not None:
            return remote.sha256 == self.sha256
        return remote.blob_id == git_blob_id(self.read())

    def read(self) -> bytes:
        """The content."""
        return self.path.read_bytes() if self.path else self.content


@dataclass(frozen=True)
class Package:
    """One checkpoint, ready to be published."""

    run: RunManifest
    manifest: CheckpointManifest
    manifest_sha256: str
    files: Mapping[str, LocalFile]
    """The checkpoint's own files, manifest included, by path in the repository."""
    evaluations: Mapping[int, Evaluation]


def in_memory(content: bytes) -> LocalFile:
    """A file of this content."""
    return LocalFile(len(content), hashlib.sha256(content).hexdigest(), None, content)


def package(run_dir: Path, step: int) -> Package:
    """Read and verify a sealed checkpoint. Files of a training state that is not on this disk any more are left out.

    Raises:
        CheckpointError: it is not what was sealed, or its weights are not all finite; names the file.
    """
    directory = run_dir / layout.checkpoint_dir(step)
    try:
        run, manifest = read_run(run_dir), read_checkpoint(directory)
        paths = {path: layout.inside(directory, path) for path in manifest.files}
    except SchemaError as error:
        raise CheckpointError(str(error)) from None
    if manifest.run_id != run.id or manifest.step != step:
        raise CheckpointError(f"{directory}: its manifest belongs to step {manifest.step} of run {manifest.run_id}")
    files = {layout.MANIFEST: in_memory((directory / layout.MANIFEST).read_bytes())}
    listed = {entry.step: entry.manifest_sha256 for entry in run.checkpoints}
    if listed.get(step, files[layout.MANIFEST].sha256) != files[layout.MANIFEST].sha256:  # a new one is not listed yet
        raise CheckpointError(
            f"{directory / layout.MANIFEST} is not the one that {layout.RUN_MANIFEST} lists, so step {step} is not "
            f"published: see `pico-train verify {run_dir}`"
        )
    for path, entry in manifest.files.items():
        file = paths[path]
        if is_state(path) and not file.is_file():
            continue
        if not file.is_file() or file.stat().st_size != entry.size or sha256_file(file) != entry.sha256:
            raise CheckpointError(
                f"{file} is not the file that was sealed, so step {step} is not published: see "
                f"`pico-train verify {run_dir}`"
            )
        files[path] = LocalFile(entry.size, entry.sha256, file)
    _check_finite(directory, manifest)
    return Package(run, manifest, files[layout.MANIFEST].sha256, files, evaluations_of(run_dir, run))


def is_state(path: str) -> bool:
    """Whether a file belongs to the training state, which may be absent."""
    return path.startswith(layout.TRAINING_STATE + "/")


def _check_finite(directory: Path, manifest: CheckpointManifest) -> None:
    for path in manifest.files:
        if path.endswith(".safetensors") and "/" not in path:
            try:
                tensor = first_nonfinite_in(directory / path)
            except TensorHeaderError as error:
                raise CheckpointError(f"{error}, so it is not published") from None
            if tensor is not None:
                raise CheckpointError(
                    f"{directory / path}: tensor {tensor!r} holds NaN or infinity, so it is not published"
                )


def evaluations_of(run_dir: Path, run: RunManifest) -> dict[int, Evaluation]:
    """The run's evaluations by step; what is damaged or another run's is left out (see `unread_evaluations`)."""
    read = ((path, _evaluation(path, run)) for path in _evaluation_files(run_dir))
    return {found.step: found for _, found in read if isinstance(found, Evaluation)}


def unread_evaluations(run_dir: Path) -> list[str]:
    """Why evaluations that lie beside a run are not published, a sentence for each."""
    run = read_run(run_dir)
    read = (_evaluation(path, run) for path in _evaluation_files(run_dir))
    return [f"not published: {found}" for found in read if isinstance(found, str)]


def _evaluation_files(run_dir: Path) -> list[Path]:
    return sorted((run_dir / layout.EVALUATIONS).glob("step-*.json"))


def _evaluation(path: Path, run: RunManifest) -> Evaluation | str:
    """An evaluation, or why it is none of this run's."""
    try:
        found = documents.read(path, Evaluation)
        flat_results(found.tasks)
    except SchemaError as error:
        return str(error) if str(path) in str(error) else f"{path}: {error}"
    if found.run_id != run.id:
        return f"{path}: an evaluation of another run ({found.run_id})"
    if not layout.evaluation_file(found.step).endswith(path.name):
        return f"{path}: an evaluation of step {found.step} under the name of another"
    return found


def index_with(before: RevisionIndex | None, bundle: Package) -> RevisionIndex:
    """The branch's index with this checkpoint in it, and evaluations as known by now."""
    index = before or RevisionIndex(run_id=bundle.run.id, run_name=bundle.run.name)
    return with_results(index.with_checkpoint(bundle.manifest, bundle.manifest_sha256), bundle.evaluations)


def with_results(index: RevisionIndex, evaluations: Mapping[int, Evaluation]) -> RevisionIndex:
    """The index with results of evaluation as known by now."""
    known = tuple(
        revision.model_copy(update={"results": flat_results(evaluations[revision.step].tasks)})
        if revision.step in evaluations
        else revision
        for revision in index.revisions
    )
    return index.model_copy(update={"revisions": known})


def revision_files(
    bundle: Package, index: RevisionIndex, run_dir: Path, *, readme: str, final: bool = False
) -> dict[str, LocalFile]:
    """Every file of the revision to be made, by path.

    Args:
        bundle: The checkpoint.
        index: The branch's index, this checkpoint included.
        run_dir: The run.
        readme: The card.
        final: Take all of metrics.jsonl. Otherwise the lines before this checkpoint, which were durable when it was
            sealed: what is published does not depend on how far training is by now.
    """
    listed = {revision.step for revision in index.revisions}
    entries = tuple(entry for entry in bundle.run.checkpoints if entry.step in listed)
    run = bundle.run.model_copy(update={"checkpoints": entries})
    evaluations = {step: found for step, found in bundle.evaluations.items() if step in listed}
    files = {
        **bundle.files,
        layout.RUN_MANIFEST: in_memory(documents.dump(run)),
        layout.REVISIONS: in_memory(documents.dump(index)),
        layout.CARD: in_memory(readme.encode()),
    }
    config, log = run_dir / layout.RUN_CONFIG, run_dir / layout.METRICS_LOG
    if config.is_file():
        files[layout.RUN_CONFIG] = in_memory(config.read_bytes())
    if log.is_file():
        files[layout.METRICS_LOG] = in_memory(
            log.read_bytes() if final else lines_before(log.read_bytes(), max(listed))
        )
    if run.validation is not None:
        files[layout.VALIDATION_ROWS] = _validation_file(run_dir, run)
    for step, evaluation in evaluations.items():
        files[layout.evaluation_file(step)] = in_memory(documents.dump(evaluation))
    return files


def _validation_file(run_dir: Path, run: RunManifest) -> LocalFile:
    """The stored validation rows, if they are what the run's manifest lists."""
    wrong = validation_rows.damage(run_dir, run)
    if run.validation is None or wrong is not None:
        raise CheckpointError(f"{run_dir}: {wrong}")
    return LocalFile(run.validation.size, run.validation.sha256, run_dir / layout.VALIDATION_ROWS)


def lines_before(log: bytes, step: int) -> bytes:
    """The whole lines of metrics.jsonl that belong to steps before `step`."""
    rows = ((line, metrics_log.parse_line(line)) for line in log.splitlines(keepends=True))
    return b"".join(line for line, row in rows if row is not None and row["step"] < step)


def holding_secret(files: Mapping[str, LocalFile], secret: str | None) -> str | None:
    """Path of a text that holds the token, which must not be published; None if there is none."""
    if not secret:
        return None
    for path, file in files.items():
        if (file.path is None or file.size <= SMALL) and secret.encode() in file.read():
            return path
    return None
