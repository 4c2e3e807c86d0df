"""Runs on the Hub, brought to this disk as run directories: `run.json` and the like, and checkpoints as far as wanted.

A revision's root is the content of one checkpoint beside the run's documents (see `publish.revision`). What was fetched
of a commit is kept in the cache and not asked for again; branches and tags are looked up each time.

Nothing is taken on trust: documents have to be of one run, a checkpoint's manifest is the one that the index lists, and
each file has the size and digest that the manifest gives it, before it gets its place.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from pico_schema import (
    AddressError,
    CheckpointManifest,
    DocumentError,
    FileEntry,
    RevisionIndex,
    RunManifest,
    SchemaError,
    ValidationRows,
    documents,
    layout,
)
from pico_schema.digests import sha256_file
from pico_schema.revisions import Revision
from pico_schema.run_names import Step, parse_address
from pico_train.data.cache import cache_root
from pico_train.data.retry import OPENING_ATTEMPTS, with_retries
from pico_train.errors import CheckpointError, StorageError, UsageError
from pico_train.publish.remote import endpoint

Wanted = Literal["documents", "model", "captures", "everything"]
"""How much of a run on the Hub is needed: its documents and manifests; besides, of the checkpoints meant, the model and
tokenizer; all but the training state; or every file."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_OF_RUN = (layout.RUN_MANIFEST, layout.RUN_CONFIG, layout.METRICS_LOG, layout.VALIDATION_ROWS, layout.REVISIONS)
_OF_MODEL = (
    layout.MODEL_CONFIG,
    layout.GENERATION_CONFIG,
    layout.WEIGHTS,
    layout.TOKENIZER,
    layout.TOKENIZER_CONFIG,
    "special_tokens_map.json",
)


@dataclass(frozen=True)
class _Repository:
    """A model repository: which commit its branches and tags name, and what was fetched of it."""

    name: str
    branches: dict[str, str]
    tags: dict[str, str]
    cache: Path
    on_retry: Callable[[str], None] | None

    @classmethod
    def ask(cls, name: str, on_retry: Callable[[str], None] | None) -> _Repository:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

        try:
            refs = with_retries(
                lambda: HfApi().list_repo_refs(name),
                what=f"repository {name}",
                attempts=OPENING_ATTEMPTS,
                on_retry=on_retry,
            )
        except (RepositoryNotFoundError, HFValidationError):
            raise CheckpointError(
                f"hf://{name}: no such repository on {endpoint()}, or no access to it: check the name, and HF_TOKEN "
                "if it is private"
            ) from None
        branches = {ref.name: ref.target_commit for ref in refs.branches}
        tags = {ref.name: ref.target_commit for ref in refs.tags}
        return cls(name, branches, tags, cache_root() / "runs", on_retry)

    def commit(self, revision: str) -> str:
        """The commit that a branch, tag or commit names."""
        if _COMMIT.fullmatch(revision):
            return revision
        found = self.branches.get(revision) or self.tags.get(revision)
        if found is None:
            near = get_close_matches(revision, [*self.branches, *self.tags], n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}" if near else ""
            branches = ", ".join(sorted(self.branches))[:300]
            raise CheckpointError(f"{self.name} has no branch or tag {revision!r}{hint}; its branches are {branches}")
        return found

    def fetch(self, commit: str, patterns: Iterable[str]) -> Path:
        """A directory with the files of a commit that match."""
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import RevisionNotFoundError

        wanted, what = list(patterns), f"{self.name}@{commit[:8]}"
        # Whether it has what was asked for is looked at and told of here.
        log = logging.getLogger("huggingface_hub._snapshot_download")
        before = log.level
        log.setLevel(logging.ERROR)
        try:
            return Path(
                with_retries(
                    lambda: snapshot_download(
                        self.name, revision=commit, allow_patterns=wanted, cache_dir=self.cache / "files"
                    ),
                    what=what,
                    attempts=OPENING_ATTEMPTS,
                    on_retry=self.on_retry,
                )
            )
        except RevisionNotFoundError:
            raise CheckpointError(f"{what}: the repository has no such commit") from None
        except OSError as error:
            raise StorageError(f"{what}: cannot be fetched ({error})") from error
        finally:
            log.setLevel(before)


def bring(
    address: str, named: Step | None, wanted: Wanted, on_retry: Callable[[str], None] | None = None
) -> tuple[Path, int | None]:
    """The run at an ``hf://`` address as a directory on this disk, and the step if one is meant.

    Args:
        address: ``hf://org/name[@revision][:step-N]``.
        named: The step named after it, if any.
        wanted: Which files of its checkpoints are needed: of the one that is meant, else of all that are published.
        on_retry: Called with a sentence before the Hub is asked again.

    Raises:
        UsageError: not an address, or the run has no such step.
        CheckpointError: no such repository or revision, or what is there is not what Pico published.
        StorageError: the Hub cannot be reached.
    """
    try:
        repo, named_revision, stated = parse_address(address)
    except AddressError as error:
        raise UsageError(str(error)) from None
    if stated is not None and named not in (None, stated):
        raise UsageError(f"{address}@{named}: names two steps")
    repository, revision = _Repository.ask(repo, on_retry), named_revision or "main"
    commit = repository.commit(revision)
    documents_dir = repository.fetch(commit, [*_OF_RUN, layout.MANIFEST, f"{layout.EVALUATIONS}/*.json"])
    try:
        run = documents.read_run(documents_dir)
        index = documents.read(documents_dir / layout.REVISIONS, RevisionIndex)
        manifest = documents_dir / layout.MANIFEST  # in the cache a link to its content
        newest, digest = documents.read(manifest, CheckpointManifest).step, sha256_file(manifest)
        _check_agreement(run, index)
        if run.validation is not None and (documents_dir / layout.VALIDATION_ROWS).is_file():
            documents_dir = _fetch_checked(repository, commit, {layout.VALIDATION_ROWS: run.validation}, documents_dir)
    except SchemaError as error:
        raise CheckpointError(
            f"{address}: not a run that pico-train published: {error}; models of other makers are measured by "
            f"`pico-analyze list {address}`, `capture` and `convert`"
        ) from None
    run_dir = repository.cache / repository.name.replace("/", "--") / commit / run.name
    _place(documents_dir, run_dir, [*_OF_RUN, *_evaluations(documents_dir, index)])
    _leave_out(run_dir, run, index)
    step = _step(run, index, named if named is not None else stated, tag=revision in repository.tags, newest=newest)
    apart = (newest, digest) in {(item.step, item.manifest_sha256) for item in index.set_aside}
    for listed in index.revisions if step is None else [index.find(step)]:
        assert listed is not None
        here = listed.step == newest and not apart
        _bring_checkpoint(repository, run, run_dir, listed, commit if here else None, wanted)
    return run_dir, step


def _check_agreement(run: RunManifest, index: RevisionIndex) -> None:
    """Raise DocumentError where the documents of a revision are not of one run."""
    if not index.revisions:
        raise DocumentError(f"{layout.REVISIONS} lists no checkpoint")
    if (index.run_id, index.run_name) != (run.id, run.name):
        raise DocumentError(f"{layout.REVISIONS} is that of another run than {layout.RUN_MANIFEST}")
    apart = {(item.step, item.manifest_sha256) for item in index.set_aside}
    digests = {
        entry.step: entry.manifest_sha256
        for entry in run.checkpoints
        if (entry.step, entry.manifest_sha256) not in apart  # the run's manifest may be older than its index
    }
    for revision in index.revisions:
        if digests.get(revision.step, revision.manifest_sha256) != revision.manifest_sha256:
            raise DocumentError(f"{layout.REVISIONS} and {layout.RUN_MANIFEST} disagree about step {revision.step}")


def _step(run: RunManifest, index: RevisionIndex, wanted: Step | None, *, tag: bool, newest: int) -> int | None:
    steps = [revision.step for revision in index.revisions]
    if wanted is None:
        return newest if tag else None
    number = wanted if isinstance(wanted, int) else steps[0] if wanted == "first" else steps[-1]
    if number not in steps:
        there = ", ".join(map(str, steps))
        raise UsageError(f"run {run.name} has no step {number} on the Hub: it has {there}")
    return number


def _bring_checkpoint(
    repository: _Repository, run: RunManifest, run_dir: Path, listed: Revision, commit: str | None, wanted: Wanted
) -> None:
    """Put a checkpoint's files, as far as wanted, into the run's directory. Without a commit its tag says which.

    Raises:
        CheckpointError: what is there is not the checkpoint that the run's index lists.
    """
    at = repository.commit(commit or layout.tag_name(run.name, listed.step))
    what = f"{repository.name}@{at[:8]}"
    manifest_dir = repository.fetch(at, [layout.MANIFEST])
    target = run_dir / layout.checkpoint_dir(listed.step)
    try:
        manifest = documents.read(manifest_dir / layout.MANIFEST, CheckpointManifest)
        if sha256_file(manifest_dir / layout.MANIFEST) != listed.manifest_sha256:
            raise DocumentError(f"it is not the checkpoint of step {listed.step} that {layout.REVISIONS} lists")
        if (manifest.run_id, manifest.step) != (run.id, listed.step):
            raise DocumentError(f"its manifest is that of step {manifest.step} of run {manifest.run_id}")
        chosen = [path for path in manifest.files if _is_wanted(path, wanted)]
        missing = [path for path in chosen if not (target / path).is_file()]
        if missing:
            fetched = _fetch_checked(repository, at, {path: manifest.files[path] for path in missing})
            _place(fetched, target, missing)
    except SchemaError as error:
        raise CheckpointError(f"{what}: {error}: ask whoever published it, or take another step") from None
    _place(manifest_dir, target, [layout.MANIFEST])


def _fetch_checked(
    repository: _Repository,
    commit: str,
    entries: Mapping[str, FileEntry | ValidationRows],
    fetched: Path | None = None,
) -> Path:
    """A directory with files of a commit, each with the content that a document gives it.

    What came damaged is thrown out of the cache and asked for once more.

    Args:
        repository: The repository.
        commit: One of its commits.
        entries: Size and digest of each file that is wanted.
        fetched: The directory, where they were fetched just now.

    Raises:
        DocumentError: a file is missing or has other content. Those of a training state may be missing: where a run
            keeps few of them, they were removed.
    """
    for again in (True, False):
        fetched = fetched or repository.fetch(commit, entries)
        there = {path: fetched / path for path in entries if (fetched / path).is_file()}
        gone = [path for path in entries if path not in there and not path.startswith(f"{layout.TRAINING_STATE}/")]
        if gone:
            raise DocumentError(f"it has no {gone[0]}, which its manifest lists")
        wrong = [path for path in there if not _is(there[path], entries[path])]
        if not wrong:
            break
        for path in wrong:
            there[path].resolve().unlink()
            there[path].unlink(missing_ok=True)
        if not again:
            raise DocumentError(f"{wrong[0]} is not the file that was published: its content is another")
        fetched = None
    assert fetched is not None
    return fetched


def _is(path: Path, entry: FileEntry | ValidationRows) -> bool:
    """Whether a file has the size and digest that a document gives it."""
    return path.stat().st_size == entry.size and sha256_file(path) == entry.sha256


def _is_wanted(path: str, wanted: Wanted) -> bool:
    if wanted == "documents":
        return False
    if wanted == "model":
        return path in _OF_MODEL
    return wanted == "everything" or not path.startswith(f"{layout.TRAINING_STATE}/")


def _evaluations(directory: Path, index: RevisionIndex) -> list[str]:
    """The evaluations of a revision, without those of steps that the run has set aside."""
    apart = {item.step for item in index.set_aside} - {item.step for item in index.revisions}
    found = (directory / layout.EVALUATIONS).glob("*.json")
    wanted = [path for path in sorted(found) if layout.parse_step_dir(path.stem) not in apart]
    return [path.relative_to(directory).as_posix() for path in wanted]


def _leave_out(run_dir: Path, run: RunManifest, index: RevisionIndex) -> None:
    """Take out of the run's own index what it has set aside since its manifest was published."""
    apart = {(item.step, item.manifest_sha256) for item in index.set_aside}
    stay = tuple(entry for entry in run.checkpoints if (entry.step, entry.manifest_sha256) not in apart)
    if stay != run.checkpoints:
        documents.write(run_dir / layout.RUN_MANIFEST, run.model_copy(update={"checkpoints": stay}))


def _place(source: Path, target: Path, paths: Iterable[str]) -> None:
    """Give files that were fetched their places in a run's directory: as links to the same content, else as copies."""
    for name in paths:
        fetched, path = layout.safe_relative_path(name), target / name
        content = (source / fetched).resolve()
        if path.is_file() or not content.is_file():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            try:
                os.link(content, path)
            except FileExistsError:
                raise
            except OSError:
                # Under a name of its own until it is whole: one that is killed leaves no half of a file.
                made = path.with_name(f".{path.name}.{os.getpid()}")
                shutil.copyfile(content, made)
                made.replace(path)
