"""The index of a run's revisions on the Hub, so that a run can be listed with a few requests.

Each published revision carries `revisions.json`: one line of facts per checkpoint published so far, its own included.
It repeats what the manifests say and decides nothing: the manifest that is read with a tensor is checked against the
digest given here. Checkpoints that the run has set aside since they were published stand apart, under `set_aside`: they
belong to another trajectory, and are no steps of the run.

Which revisions there are at all, the Hub's own list says: `BranchesAndTags`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, Self, TypeVar

from pydantic import Field, model_validator

from pico_schema.layout import check_run_name
from pico_schema.manifest import (
    SCHEMA_VERSION,
    CheckpointManifest,
    Count,
    Document,
    RunId,
    Sha256,
    Split,
    Step,
)

MAX_REVISIONS = 100_000
MAX_REASON = 1000
CommitId = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
SiteName = Annotated[str, Field(max_length=100)]


@dataclass(frozen=True)
class BranchesAndTags:
    """Which commit each branch and tag of a repository names: plain data, as whoever asked the Hub has checked it."""

    branches: Mapping[str, str]
    tags: Mapping[str, str]


class CaptureShape(Document):
    """What checkpoints of one kind captured of one split."""

    activations: tuple[SiteName, ...] = ()
    """Sites whose activation is there."""
    gradients: tuple[SiteName, ...] = ()
    """Sites whose weight's gradient is there."""
    n_samples: Annotated[int, Field(ge=0)]
    """Rows of each activation matrix."""
    noise: tuple[SiteName, ...] = ()
    """Sites, blocks and the model, of whose gradient the noise is there. Since schema 1.2."""


class RevisionShape(Document):
    """What many checkpoints of a run have in common, written once."""

    weights: tuple[SiteName, ...] = ()
    """Sites whose weight is there."""
    captures: dict[Split, CaptureShape] = Field(default_factory=dict)
    """Captures by split."""


class Revision(Document):
    """One published checkpoint."""

    step: Step
    """Its step."""
    tokens_seen: Count | None
    """Tokens consumed before it."""
    manifest_sha256: Sha256
    """Digest of its manifest.json."""
    commit: CommitId | None = None
    """The commit that holds it; None for the checkpoint of the commit that this index lies in."""
    size: Count
    """Bytes of all its files."""
    shape: Annotated[int, Field(ge=0)]
    """Index into the shapes."""
    samples_sha256: dict[Split, Sha256] = Field(default_factory=dict)
    """Digest of the captured samples, by split."""
    metrics: dict[str, float | None] = Field(default_factory=dict)
    """Scalars known at this step."""
    results: dict[str, float] = Field(default_factory=dict)
    """Results of evaluation as far as known when the index was written: task.measure → number."""


class SetAsideRevision(Revision):
    """A published checkpoint that the run has set aside: it was done again from an earlier step. Since schema 1.2."""

    commit: CommitId
    """The commit that holds it."""
    reason: Annotated[str, Field(min_length=1, max_length=MAX_REASON)]
    """Why, in one clause."""


class RevisionIndex(Document):
    """`revisions.json`: every checkpoint of a run that is published, by ascending step."""

    kind: Literal["revisions"] = "revisions"
    """Kind of document."""
    schema_version: Annotated[str, Field(pattern=r"^\d+\.\d+$")] = SCHEMA_VERSION
    """Version of the contract it was written under."""
    run_id: RunId
    """Run that the revisions belong to."""
    run_name: str
    """Its name: the branch, and the stem of the tags."""
    shapes: tuple[RevisionShape, ...] = ()
    """The distinct contents of checkpoints."""
    revisions: Annotated[tuple[Revision, ...], Field(max_length=MAX_REVISIONS)] = ()
    """The checkpoints."""
    set_aside: Annotated[tuple[SetAsideRevision, ...], Field(max_length=MAX_REVISIONS)] = ()
    """Published checkpoints that the run has set aside, by ascending step; of one step there may be several (since
    schema 1.2)."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_run_name(self.run_name)
        steps = [revision.step for revision in self.revisions]
        if steps != sorted(set(steps)):
            raise ValueError("revisions are not in ascending order of their steps, or one is listed twice")
        apart = [revision.step for revision in self.set_aside]
        if apart != sorted(apart):
            raise ValueError("revisions that were set aside are not in ascending order of their steps")
        everything = [(item.step, item.manifest_sha256) for item in (*self.revisions, *self.set_aside)]
        if len(set(everything)) != len(everything):
            raise ValueError("a checkpoint that was set aside is listed twice, or as a revision too")
        if any(revision.shape >= len(self.shapes) for revision in (*self.revisions, *self.set_aside)):
            raise ValueError("a revision refers to a shape that is not listed")
        return self

    def find(self, step: int) -> Revision | None:
        """The revision of a step, or None."""
        return next((revision for revision in self.revisions if revision.step == step), None)

    def with_checkpoint(
        self, manifest: CheckpointManifest, manifest_sha256: str, *, results: dict[str, float] | None = None
    ) -> RevisionIndex:
        """A copy in which this checkpoint is listed as the one of the commit to be made; one of the same step is
        replaced."""
        shape = _shape(manifest)
        shapes = self.shapes if shape in self.shapes else (*self.shapes, shape)
        revision = Revision(
            step=manifest.step,
            tokens_seen=manifest.tokens_seen,
            manifest_sha256=manifest_sha256,
            size=manifest.size,
            shape=shapes.index(shape),
            samples_sha256={capture.split: capture.samples_sha256 for capture in manifest.captures},
            metrics=manifest.metrics,
            results=results or {},
        )
        others = [known for known in self.revisions if known.step != manifest.step]
        apart = tuple(known for known in self.set_aside if not _same(known, revision))
        update = {"shapes": shapes, "revisions": _ordered([*others, revision]), "set_aside": apart}
        return self.model_copy(update=update)

    def with_commits(self, commits: dict[int, str]) -> RevisionIndex:
        """A copy in which the revisions of these steps name their commits, where they did not yet."""
        revisions = tuple(
            revision.model_copy(update={"commit": commits[revision.step]})
            if revision.commit is None and revision.step in commits
            else revision
            for revision in self.revisions
        )
        return self.model_copy(update={"revisions": revisions})

    def with_set_aside(self, reasons: Mapping[int, str]) -> RevisionIndex:
        """A copy in which the revisions of these steps are set aside, each for its reason.

        Raises:
            ValueError: a revision of these does not name its commit.
        """
        chosen = [revision for revision in self.revisions if revision.step in reasons]
        apart = [
            SetAsideRevision.model_validate(revision.model_dump() | {"reason": reasons[revision.step][:MAX_REASON]})
            for revision in chosen
        ]
        stay = tuple(revision for revision in self.revisions if revision.step not in reasons)
        return self.model_copy(update={"revisions": stay, "set_aside": _ordered([*self.set_aside, *apart])})

    def with_taken_back(self, digests: Mapping[int, str]) -> RevisionIndex:
        """A copy in which the checkpoints of these steps and manifests, which were set aside, are revisions again.

        Where another checkpoint of the step is listed, they stay set aside.
        """
        taken = {revision.step for revision in self.revisions}
        back = [
            revision
            for revision in self.set_aside
            if digests.get(revision.step) == revision.manifest_sha256 and revision.step not in taken
        ]
        again = [Revision.model_validate(revision.model_dump(exclude={"reason"})) for revision in back]
        stay = tuple(revision for revision in self.set_aside if revision not in back)
        return self.model_copy(update={"revisions": _ordered([*self.revisions, *again]), "set_aside": stay})


R = TypeVar("R", bound=Revision)


def _ordered(revisions: Iterable[R]) -> tuple[R, ...]:
    return tuple(sorted(revisions, key=lambda revision: revision.step))


def _same(one: Revision, other: Revision) -> bool:
    """Whether both are the same checkpoint."""
    return (one.step, one.manifest_sha256) == (other.step, other.manifest_sha256)


def _shape(manifest: CheckpointManifest) -> RevisionShape:
    captures = {
        capture.split: CaptureShape(
            activations=capture.activations,
            gradients=capture.gradients,
            n_samples=capture.n_samples,
            noise=capture.noise,
        )
        for capture in manifest.captures
    }
    return RevisionShape(weights=manifest.weighted_sites, captures=captures)
