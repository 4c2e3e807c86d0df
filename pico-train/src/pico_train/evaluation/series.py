"""The checkpoints that a person's word means, and where results of them are kept.

A run of Pico, on this disk or on the Hub (`addresses`): results lie beside its sealed checkpoints. Any other model of
transformers, one by itself or a series (folders, branches or tags whose names end in a step): results lie in a
directory of their own, as the same documents, named by a digest of the model's place and of its files.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pico_schema import Evaluation, RunManifest, SchemaError, documents, layout
from pico_schema.digests import sha256_file
from pico_schema.files import replace_file
from pico_train.addresses import HUB, open_run, sealed_checkpoint
from pico_train.data.retry import OPENING_ATTEMPTS, with_retries
from pico_train.errors import CheckpointError, DataError, UsageError
from pico_train.evaluation import results
from pico_train.training.step import Tasks

_STEP = re.compile(r"(?:^|.*[^0-9a-z])(?:global_)?(?:step|checkpoint|iter|ckpt)[-_]?([0-9]{1,8})", re.IGNORECASE)
"""Names of checkpoints of a series: step1000, checkpoint-500, main-step_20, …"""
_FILES = ("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer*.json")
_MORE_FILES = ("special_tokens_map.json", "vocab.json", "merges.txt")


@dataclass(frozen=True)
class OwnSeries:
    """Sealed checkpoints of a run of Pico."""

    run_dir: Path
    run: RunManifest
    steps: tuple[int, ...]
    """Those that are meant, ascending."""
    on_hub: bool
    """Whether it was brought from the Hub."""

    @property
    def name(self) -> str:
        """Of the run."""
        return self.run.name

    @contextmanager
    def checkpoint(self, step: int) -> Iterator[Path]:
        """Directory of a checkpoint.

        Raises:
            CheckpointError, SchemaError: it is not the one that the run's index lists.
        """
        yield sealed_checkpoint(self.run_dir, step)

    def known(self, step: int, directory: Path) -> Tasks:
        """Results that there are of a checkpoint."""
        try:
            found = results.read(self.run_dir, self.run, step, sha256_file(directory / layout.MANIFEST))
        except SchemaError as error:
            raise DataError(f"{error}: move it away, and evaluate again") from None
        return {} if found is None else found.tasks

    def keep(self, step: int, directory: Path, tasks: Tasks) -> None:
        """Put results beside a checkpoint."""
        results.add(self.run_dir, self.run, step, directory, tasks, replace=True)

    def file(self, step: int) -> Path:
        """Where results are."""
        return self.run_dir / layout.evaluation_file(step)


@dataclass(frozen=True)
class ForeignSeries:
    """Models of others."""

    name: str
    """What the series is called."""
    place: str
    """Where it lies, as it was named."""
    out: Path
    """Directory of the results."""
    revisions: dict[int, str] = field(default_factory=dict)
    """Step → folder, or branch or tag on the Hub."""
    repo: str | None = None
    """Repository on the Hub; None for folders."""

    @property
    def steps(self) -> tuple[int, ...]:
        """Ascending."""
        return tuple(sorted(self.revisions))

    @contextmanager
    def checkpoint(self, step: int) -> Iterator[Path]:
        """Directory of a model: of one on the Hub, with its files for as long as they are needed.

        Raises:
            CheckpointError: there is no model of safetensors.
            StorageError: the Hub cannot be reached.
        """
        if self.repo is None:
            yield _checked(Path(self.revisions[step]), self.revisions[step])
            return
        from huggingface_hub import snapshot_download

        with tempfile.TemporaryDirectory(prefix="pico-evaluate-") as room:
            with_retries(
                lambda: snapshot_download(
                    str(self.repo),
                    revision=self.revisions[step],
                    allow_patterns=[*_FILES, *_MORE_FILES],
                    local_dir=room,
                ),
                what=f"{self.repo}@{self.revisions[step]}",
                attempts=OPENING_ATTEMPTS,
            )
            yield _checked(Path(room), f"hf://{self.repo}@{self.revisions[step]}")

    def known(self, step: int, directory: Path) -> Tasks:
        """Results that there are of a model with these files."""
        path = self.file(step)
        if not path.is_file():
            return {}
        try:
            found = documents.read(path, Evaluation)
        except SchemaError as error:
            raise DataError(f"{error}: move it away, and evaluate again") from None
        same = (found.run_id, found.manifest_sha256) == (self._id, _identity(directory))
        return found.tasks if same else {}

    def keep(self, step: int, directory: Path, tasks: Tasks) -> None:
        """Put results into the directory of this series."""
        evaluation = Evaluation(
            run_id=self._id,
            step=step,
            manifest_sha256=_identity(directory),
            created=datetime.now(UTC),
            producer=results.PRODUCER,
            tasks=results.together(self.known(step, directory), tasks),
        )
        self.file(step).parent.mkdir(parents=True, exist_ok=True)
        replace_file(self.file(step), documents.dump(evaluation))

    def file(self, step: int) -> Path:
        """Where results are."""
        return self.out / layout.evaluation_file(step)

    @property
    def _id(self) -> str:
        return hashlib.sha256(self.place.encode()).hexdigest()[:32]


def open_series(place: str, steps: Sequence[int] | None, out: Path | None) -> OwnSeries | ForeignSeries:
    """The checkpoints that a place means.

    Args:
        place: A run, one checkpoint of it, or a model or series of others.
        steps: Which of them; None for all.
        out: Directory of results of models of others; by default `evaluated/NAME`.

    Raises:
        CheckpointError, StorageError: there is nothing, and the message names the nearest.
        UsageError: there are no such steps.
    """
    found: OwnSeries | ForeignSeries | None = None
    failure: CheckpointError | None = None
    try:
        found = _own(place)
    except CheckpointError as error:
        failure = error
    if found is None:
        found = _on_hub(place, out) if place.startswith(HUB) else _folders(place, out)
    if found is None:
        assert failure is not None
        raise failure
    if steps is None:
        return found
    missing = [step for step in steps if step not in found.steps]
    if missing:
        there = ", ".join(map(str, found.steps[:40]))
        raise UsageError(f"--steps {','.join(map(str, missing))}: {place} has steps {there}")
    chosen = tuple(sorted(set(steps)))
    if isinstance(found, OwnSeries):
        return OwnSeries(found.run_dir, found.run, chosen, found.on_hub)
    return ForeignSeries(
        found.name, found.place, found.out, {step: found.revisions[step] for step in chosen}, found.repo
    )


def _own(place: str) -> OwnSeries:
    found = open_run(place, "model")
    run = documents.read_run(found.run_dir)
    sealed = [step for step, path in documents.checkpoint_dirs(found.run_dir) if (path / layout.MANIFEST).is_file()]
    if not sealed:
        raise CheckpointError(f"{found.run_dir}: the run has no complete checkpoint yet")
    if found.step is not None and found.step not in sealed:
        raise UsageError(f"{place}: has no checkpoint of step {found.step}: there are {', '.join(map(str, sealed))}")
    steps = tuple(sealed) if found.step is None else (found.step,)
    return OwnSeries(found.run_dir, run, steps, found.on_hub)


def _folders(place: str, out: Path | None) -> ForeignSeries | None:
    """A model in a folder, or the folders of a series."""
    directory = Path(place).expanduser()
    if not directory.is_dir():
        return None
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", directory.resolve().name).strip("-.") or "model"
    room = out or Path("evaluated") / name
    if (directory / layout.MODEL_CONFIG).is_file():
        return ForeignSeries(name, str(directory.resolve()), room, {_step_of(directory.name) or 0: str(directory)})
    found = {
        step: str(path)
        for path in sorted(directory.iterdir())
        if (step := _step_of(path.name)) is not None and (path / layout.MODEL_CONFIG).is_file()
    }
    return ForeignSeries(name, str(directory.resolve()), room, found) if found else None


def _step_of(name: str) -> int | None:
    match = _STEP.fullmatch(name)
    return int(match[1]) if match else None


def _on_hub(place: str, out: Path | None) -> ForeignSeries | None:
    """A model repository, at one revision, or all of its branches and tags that name a step."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    repo, _, revision = place.removeprefix(HUB).partition("@")
    try:
        refs = with_retries(lambda: HfApi().list_repo_refs(repo), what=f"repository {repo}", attempts=OPENING_ATTEMPTS)
    except (RepositoryNotFoundError, HFValidationError):
        return None
    room = out or Path("evaluated") / repo.replace("/", "--")
    if revision:
        return ForeignSeries(repo, place, room, {_step_of(revision) or 0: revision}, repo)
    named = {step: ref.name for ref in (*refs.tags, *refs.branches) if (step := _step_of(ref.name)) is not None}
    return ForeignSeries(repo, f"{HUB}{repo}", room, named or {0: "main"}, repo)


def _checked(directory: Path, where: str) -> Path:
    if not (directory / layout.MODEL_CONFIG).is_file() or not any(directory.glob("*.safetensors")):
        raise CheckpointError(
            f"{where}: has no {layout.MODEL_CONFIG} beside weights in safetensors: pickled weights are not opened here "
            "(`pico-analyze convert` makes safetensors of them)"
        )
    return directory


def _identity(directory: Path) -> str:
    """Digest of what a model is: its configuration, weights and tokenizer."""
    names = sorted(path.name for path in directory.iterdir() if path.suffix in (".json", ".safetensors"))
    content = "\n".join(f"{name} {sha256_file(directory / name)}" for name in names)
    return hashlib.sha256(content.encode()).hexdigest()
