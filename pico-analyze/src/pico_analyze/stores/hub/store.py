"""Runs published on the Hugging Face Hub: ``hf://org/name@branch-or-tag``, ``hf://org/name@branch:step-128``.

An address is resolved to commits once; everything is read from them, and they stand in each row's provenance. A run is
listed with three requests (refs, and the branch's `revisions.json`); a matrix is one range of one file. Weights are
safetensors only: nothing is unpickled, and a training state is never asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from pico_analyze.errors import DataError
from pico_analyze.stores.base import Data, Input, SplitInfo, StepInfo, Unusable
from pico_analyze.stores.hub.address import Address, KnownRefs, resolve
from pico_analyze.stores.hub.client import MissingError
from pico_analyze.stores.hub.model_files import HubFile, HubFiles, Repository
from pico_analyze.stores.local import check_shape, step_info, taken_out, tensor_place
from pico_analyze.stores.safetensors import TensorFile
from pico_analyze.stores.samples import Files, TokenRows, captured_samples, positions_of, stored_rows
from pico_analyze.stores.seals import BrokenSeal, unlike_the_list
from pico_analyze.stores.set_aside import SetAside, printable, published_aside
from pico_analyze.stores.shown import Shown
from pico_schema import (
    CheckpointManifest,
    FileEntry,
    Membership,
    ModelSpec,
    Parent,
    RevisionIndex,
    RunManifest,
    SchemaError,
    documents,
    layout,
)
from pico_schema.revisions import BranchesAndTags

if TYPE_CHECKING:
    import pandas

MAX_HEADER = 16 << 20
"""Largest header of a safetensors file that is fetched, in bytes."""


class NotPublishedError(Exception):
    """A commit that Pico did not publish."""

    def __init__(self, commit: str) -> None:
        super().__init__(commit)
        self.commit = commit


class HubStore(Shown):
    """A run on the Hub, read from the commits that its address was resolved to.

    Raises:
        NotPublishedError: what is there was not published by Pico.
    """

    kind = "hub"

    def __init__(self, address: Address, known: KnownRefs, repository: Repository) -> None:
        self.repo, self.offline = address.repo, known.offline
        self._repository, self._files = repository, repository.files
        self._commit, self._only = resolve(address, known)
        self._refs: BranchesAndTags | None = known.listed
        self.location = f"hf://{self.repo}@{self._commit}"
        if self._only is not None:
            self._check_asked_of_the_run(address, self._only)
            self.location += f":step-{self._only}"
            self.run = self.checkpoint_manifest(self._only).run_name
        else:
            self.run = self._index.run_name
        self._check_tags()

    def _check_tags(self) -> None:
        """A tag must name the commit that the branch's own index gives for its step."""
        if self._only is not None or self._refs is None:
            return
        for step, commit in self._commits.items():
            tag = layout.tag_name(self.run, step)
            if self._refs.tags.get(tag, commit) != commit:
                raise DataError(
                    f"tag {tag} of {self.repo} was moved: the run was published with {commit}, the tag names "
                    f"{self._refs.tags[tag]}; read hf://{self.repo}@{self._commit} for the run as published"
                )

    # -- documents

    @cached_property
    def _index(self) -> RevisionIndex:
        """The branch's list of revisions."""
        return self._index_at(self._commit)

    def _index_at(self, commit: str) -> RevisionIndex:
        where = f"{self.repo}@{commit[:12]}:{layout.REVISIONS}"
        try:
            return documents.parse(self._files.document(commit, layout.REVISIONS), RevisionIndex, where=where)
        except MissingError:
            raise NotPublishedError(commit) from None
        except SchemaError as error:
            raise DataError(str(error)) from None

    def _check_asked_of_the_run(self, address: Address, step: int) -> None:
        """A branch's step is one of its run: what the run has set aside is no longer, though its tag stays.

        Named by its own tag or commit it is opened: then no run is asked for.
        """
        head = self._refs.branches.get(address.revision or "main") if self._refs else None
        if head is None or head == self._commit:
            return
        with suppress(NotPublishedError):  # other makers' branches have no index
            index = self._index_at(head)
            aside = next((item for item in index.set_aside if item.step == step), None)
            if aside is not None and index.find(step) is None:
                raise DataError(self._told_apart(step, aside.reason, aside.commit))

    def _told_apart(self, step: int, reason: str, commit: str | None) -> str:
        return (
            f"step {step} of {self.repo} is no part of the run, which has set it aside ({printable(reason)}): read it "
            f"by itself as hf://{self.repo}@{commit}:step-{step}"
        )

    @cached_property
    def _commits(self) -> dict[int, str]:
        """Commit of each step. The index cannot name the commit it lies in: that one's tag does, or it is the head."""
        tags = self._refs.tags if self._refs else {}
        return {
            revision.step: revision.commit
            or tags.get(layout.tag_name(self._index.run_name, revision.step), self._commit)
            for revision in self._index.revisions
        }

    @lru_cache(maxsize=1024)  # noqa: B019 - one store per analysis; a manifest is some kilobytes
    def _found(self, step: int) -> tuple[CheckpointManifest, str, str]:
        """Manifest, its digest and its commit.

        Raises:
            DataError: there is no such step, or its manifest is not the one that was published.
        """
        commit, expected = self._commit, None
        if self._only is None or self._manifest_at(commit)[0].step != step:
            revision = self._index.find(step)
            aside = next((item for item in self._index.set_aside if item.step == step), None)
            if revision is None and aside is not None:
                raise DataError(self._told_apart(step, aside.reason, aside.commit))
            if revision is None:
                known = ", ".join(str(r.step) for r in self._index.revisions[:20])
                raise DataError(f"{self.repo} has no published checkpoint of step {step}: there are {known}")
            commit, expected = self._commits[step], revision.manifest_sha256
        manifest, digest = self._manifest_at(commit)
        if manifest.step != step or expected not in (None, digest):
            raise DataError(
                f"{self.repo}@{commit[:12]} does not hold the step {step} that was published: it was altered"
            )
        return manifest, digest, commit

    @lru_cache(maxsize=1024)  # noqa: B019
    def _manifest_at(self, commit: str) -> tuple[CheckpointManifest, str]:
        try:
            raw = self._files.document(commit, layout.MANIFEST)
            manifest = documents.parse(raw, CheckpointManifest, where=f"{self.repo}@{commit[:12]}:{layout.MANIFEST}")
        except MissingError:
            raise NotPublishedError(commit) from None
        except SchemaError as error:
            raise DataError(str(error)) from None
        return manifest, hashlib.sha256(raw).hexdigest()

    def checkpoint_manifest(self, step: int) -> CheckpointManifest:
        """The manifest of a step."""
        return self._found(step)[0]

    # -- the protocol

    @lru_cache(maxsize=1)  # noqa: B019
    def steps(self) -> tuple[StepInfo, ...]:
        """The published checkpoints, by ascending step."""
        if self._only is not None:
            manifest, digest, _ = self._found(self._only)
            return (step_info(manifest, digest),)
        index, found = self._index, []
        for revision in index.revisions:
            shape = index.shapes[revision.shape]
            splits: dict[str, SplitInfo] = {
                split: SplitInfo(s.activations, s.gradients, s.n_samples, revision.samples_sha256.get(split), s.noise)
                for split, s in shape.captures.items()
            }
            found.append(
                StepInfo(
                    step=revision.step,
                    digest=revision.manifest_sha256,
                    tokens_seen=revision.tokens_seen,
                    size=revision.size,
                    weights=shape.weights,
                    splits=splits,
                    metrics=dict(revision.metrics),
                )
            )
        return tuple(found)

    def set_aside(self) -> tuple[SetAside, ...]:
        """Published checkpoints that the run has set aside since, those of one reason together."""
        return published_aside(self._index) if self._only is None else ()

    def unusable(self) -> tuple[Unusable, ...]:
        """Tags of the run that its branch lists neither as revisions nor as set aside."""
        if self._only is not None or self._refs is None:
            return ()
        found, known = [], {*self._commits, *(item.step for item in self._index.set_aside)}
        for tag in sorted(self._refs.tags):
            named = layout.parse_tag(tag)
            if named is not None and named[0] == self.run and named[1] not in known:
                found.append(Unusable(tag, named[1], f"its branch does not list it in {layout.REVISIONS}"))
        return tuple(found)

    def spec(self, step: int) -> ModelSpec:
        """The model's geometry."""
        return self.checkpoint_manifest(step).model

    def read(self, step: int, split: str | None, data: Data, site: str) -> np.ndarray:
        """One tensor, by range. What shows to be damaged is thrown away and asked for once more; if any of its file was
        given out before, all of it, so that it is known whether that was right."""
        manifest, _, commit = self._found(step)
        path, name = tensor_place(manifest, split, data, site)
        try:
            file = self._file(step, path)
            array = file.read(name)
        except DataError:
            entry = manifest.files.get(path)
            if self.offline or entry is None:
                raise
            self._forget(entry)
            try:
                self._files.fetch_whole(commit, path, entry)
                file = self._file(step, path)
                array = file.read(name)
            except DataError:
                self._forget(entry)
                raise
        array = taken_out(array, manifest, data, site, where=file.where)
        check_shape(array, manifest, split, data, where=f"{file.where}: tensor {name!r}")
        return array

    def _forget(self, entry: FileEntry) -> None:
        self._files.forget(entry)
        self._file.cache_clear()

    @lru_cache(maxsize=256)  # noqa: B019 - headers only
    def _file(self, step: int, path: str) -> TensorFile:
        manifest, _, commit = self._found(step)
        entry, where = manifest.files.get(path), self._files.where(commit, path)
        if entry is None:
            raise DataError(f"{where}: the manifest does not list it")
        return TensorFile(self._files.reader(commit, path, entry), entry.size, where=where, max_header=MAX_HEADER)

    def files(self, step: int) -> HubFiles:
        """The files of a step's revision, as the Hub lists them."""
        commit = self._found(step)[2]
        return HubFiles(self._repository, commit, layout.tag_name(self.run, step), self._repository.listing(commit))

    def broken_seals(self, step: int) -> tuple[BrokenSeal, ...]:
        """The files that the Hub lists otherwise than the manifest."""
        manifest, _, commit = self._found(step)
        return unlike_the_list(manifest, self._repository.listing(commit))

    def inputs(self, step: int, split: str | None, data: Data, site: str) -> tuple[Input, ...]:
        """The file that holds the tensor, and what was read of it before all of it was at hand."""
        manifest = self.checkpoint_manifest(step)
        path, name = tensor_place(manifest, split, data, site)
        entry, tensors = manifest.files[path], self._file(step, path).tensors
        begin = min(tensor.offset for tensor in tensors.values())
        unchecked = self._files.unchecked(entry, begin, tensors[name].offset, tensors[name].nbytes)
        return (Input(path, entry.sha256, unchecked),)

    def confirms(self, step: int, file: str, unchecked: Mapping[str, str]) -> bool | None:
        """Whether ranges that were read before their file was at hand are those of the file; None while it is not."""
        entry = self.checkpoint_manifest(step).files.get(file)
        return False if entry is None else self._files.confirms(entry, unchecked)

    def positions(self, step: int, split: str) -> int:
        """Positions kept in each row of a capture."""
        return positions_of(self.checkpoint_manifest(step), split)

    def samples(self, step: int, split: str) -> pandas.DataFrame:
        """The tokens of a capture: two files of some kilobytes, kept in the cache like any other. What shows to be
        damaged is thrown away and asked for once more."""
        manifest, _, commit = self._found(step)

        def content(path: str, entry: FileEntry) -> bytes:
            at = self._commit if path == layout.VALIDATION_ROWS else commit
            return bytes(self._files.reader(at, path, entry)(0, entry.size))

        files = Files(self.run_manifest, lambda path: self._file(step, path).metadata, content)
        where, capture = f"{self.repo}@{commit[:12]}", manifest.capture(split)
        try:
            return captured_samples(files, manifest, split, where=where)
        except DataError:
            stored = split != "val" or self.run_manifest().validation is not None
            if self.offline or capture is None or not stored:
                raise
            self._forget(manifest.files[capture.file])
            return captured_samples(files, manifest, split, where=where)

    def run_manifest(self) -> RunManifest:
        """What the run says of itself, where its branch stands."""
        where = f"{self.repo}@{self._commit[:12]}:{layout.RUN_MANIFEST}"
        try:
            return documents.parse(self._files.document(self._commit, layout.RUN_MANIFEST), RunManifest, where=where)
        except MissingError:
            raise DataError(f"{where}: the repository lacks it: the revision is not whole") from None
        except SchemaError as error:
            raise DataError(str(error)) from None

    def membership(self) -> Membership | None:
        """The suite that the run is of."""
        return self.run_manifest().suite

    def parent(self) -> Parent | None:
        """The checkpoint that it was forked from."""
        return self.run_manifest().parent

    def validation_rows(self) -> TokenRows | None:
        """The validation rows that are published with the run; None where there are none."""
        if (listed := self.run_manifest().validation) is None:
            return None
        entry, where = FileEntry(size=listed.size, sha256=listed.sha256), f"{self.repo}:{layout.VALIDATION_ROWS}"
        content = bytes(self._files.reader(self._commit, layout.VALIDATION_ROWS, entry)(0, entry.size))
        return stored_rows(content, entry, where=where)

    def batch_rows(self, step: int) -> TokenRows | None:
        """The batch that a step's update was taken on; None where the checkpoint does not hold it."""
        manifest, _, commit = self._found(step)
        if (entry := manifest.files.get(layout.TRAIN_BATCH)) is None:
            return None
        where = f"{self.repo}@{commit[:12]}:{layout.TRAIN_BATCH}"
        content = bytes(self._files.reader(commit, layout.TRAIN_BATCH, entry)(0, entry.size))
        return stored_rows(content, entry, where=where)

    def model_files(self, step: int) -> HubFiles:
        """The files of a checkpoint, which is a model of transformers."""
        manifest, _, commit = self._found(step)
        named = {path: entry for path, entry in manifest.files.items() if "/" not in path}
        listed = {path: HubFile(entry.size, "", entry.sha256) for path, entry in named.items()}
        return HubFiles(self._repository, commit, layout.tag_name(self.run, step), listed)

    def evaluations(self) -> dict[int, dict[str, float]]:
        """The manifests' scalars and the results of evaluation known when the branch was last published to."""
        return {
            revision.step: {name: value for name, value in revision.metrics.items() if value is not None}
            | dict(revision.results)
            for revision in self._index.revisions
            if self._only in (None, revision.step)
        }

    def provenance(self, step: int) -> Mapping[str, str]:
        """Run id, manifest digest, repository and commit."""
        manifest, digest, commit = self._found(step)
        return {"run_id": manifest.run_id, "manifest_sha256": digest, "repo": self.repo, "commit": commit}
