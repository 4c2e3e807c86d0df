"""The documents of the contract: what a run and a checkpoint say about themselves.

Readers ignore fields that a newer minor version added; writers build these models, so what they write is checked.
The manifest of a checkpoint is written last: where it is, the checkpoint is complete.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pico_schema.architecture import AnySpec
from pico_schema.layout import check_paths, check_run_name
from pico_schema.sites import WEIGHTED_KINDS, WHOLE_MODEL, WITHOUT_WEIGHT, Site, expand, parse_block

SCHEMA_VERSION = "1.2"
"""Version of the documents this package writes."""

MAX_FILES = 100_000
"""Most files of a checkpoint: 100,000."""
MAX_FILE_SIZE = 2**44
"""16 TiB: no single file of a revision is larger, so a larger claim is hostile or damaged."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Step = Annotated[int, Field(ge=0, le=10**8 - 1)]
Count = Annotated[int, Field(ge=0, le=2**62)]
Split = Literal["train", "val"]
RunId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class Document(BaseModel):
    """Base of every part of a document: immutable; a field of a newer minor version is ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class Producer(Document):
    """The program that wrote a document."""

    name: Annotated[str, Field(max_length=100)]
    """Distribution name, such as pico-train."""
    version: Annotated[str, Field(max_length=100)]
    """Its version."""


class FileEntry(Document):
    """Size and digest of one file of a checkpoint."""

    size: Annotated[int, Field(ge=0, le=MAX_FILE_SIZE)]
    """Size in bytes."""
    sha256: Sha256
    """SHA-256 of the content, lower-case hexadecimal."""


class DataFingerprint(Document):
    """What identifies the training data, so that equal fingerprints and seeds mean equal batches."""

    source: Annotated[str, Field(max_length=2000)]
    """Kind of source: stdlib, text, tokens, hub, or another producer's name for it. ``unknown`` where no one knows what
    the model was trained on: the other fields then say what its validation rows are, if it has any."""
    sha256: Sha256
    """Digest over the token rows' identity: what the data is, in which order it is stored."""
    n_rows: Count
    """Rows of `seq_len` + 1 tokens in one epoch."""
    seq_len: Annotated[int, Field(gt=0, le=2**24)]
    """Tokens that a row trains on."""
    vocab_size: Annotated[int, Field(gt=0, le=2**24)]
    """Token ids are smaller than this."""
    tokenizer_sha256: Sha256 | None = None
    """Digest of the tokenizer's files, or None where the data came without one."""
    order: Literal["sequential", "shuffled"] = "shuffled"
    """How rows are ordered within an epoch."""
    details: dict[str, str | int | float | bool | None] = {}
    """Anything else worth citing: repository, revision, licence, paths."""


class DataCursor(Document):
    """Where in the data a checkpoint stands: the row at which the next batch begins.

    It follows from the step where batch size and data were the same throughout. A run that was resumed under another
    batch size goes on from here; one that was resumed with other data began at their first row.
    """

    epoch: Count
    """Complete passes over the data before the next batch begins."""
    row: Count
    """Rows of the current epoch already consumed."""
    batch_size: Annotated[int, Field(gt=0, le=2**62)]
    """Rows of a global batch, of the one that the next update consumes."""


class Capture(Document):
    """One file of activations and gradients.

    Activations are (n_samples, n_features), samples ordered by (row, position); gradients have their weight's shape.
    """

    split: Split
    """`train`: on batch N of step N. `val`: on one fixed validation set."""
    file: Annotated[str, Field(max_length=1024)]
    """Path of the safetensors file, relative to the checkpoint."""
    dtype: Literal["bfloat16", "float32", "float16", "float64"]
    """Type of the stored activations."""
    activations: tuple[str, ...] = ()
    """Sites whose activation is stored, as tensor ``activations/<site>``."""
    gradients: tuple[str, ...] = ()
    """Sites whose weight's gradient is stored, as tensor ``gradients/<site>``: of the mean token loss over the whole
    batch, before clipping."""
    extras: tuple[str, ...] = ()
    """Further tensors in the file, by name: optimizer moments, per-row losses."""
    n_rows: Annotated[int, Field(ge=0, le=2**31 - 1)]
    """Rows of which activations were kept."""
    positions: tuple[Annotated[int, Field(ge=0, le=2**31 - 1)], ...]
    """Positions kept in each row; n_samples = n_rows × len(positions)."""
    samples_sha256: Sha256
    """Digest of the token rows and the positions: equal digests mean the same samples in the same order."""
    loss: float | None = None
    """Mean token loss (nats) over all tokens of the rows that the gradient was taken on."""
    noise: tuple[str, ...] = ()
    """Sites of whose weight's gradient the noise is stored, as tensor ``noise/<site>`` (`layout.noise_tensor`), besides
    ``layers.<i>.block`` for all parameters of a block and ``model`` for all of the model. Since schema 1.2."""

    @property
    def n_samples(self) -> int:
        """Rows of each activation matrix."""
        return self.n_rows * len(self.positions)

    @field_validator("activations", "gradients")
    @classmethod
    def _sites(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            Site.parse(name)
        if len(set(names)) != len(names):
            raise ValueError("a site is listed twice")
        return names

    @field_validator("noise")
    @classmethod
    def _groups(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if parse_block(name) is None and name != WHOLE_MODEL and not Site.parse(name).has_weight:
                raise ValueError(f"noise of {name!r}: it has no weight")
        if len(set(names)) != len(names):
            raise ValueError("the noise of a site is listed twice")
        return names


class WeightSlice(Document):
    """A site's weight inside a tensor of the weights file. Since schema 1.2.

    The tensor is transposed if it says so; its rows are cut into `groups` of equal size, and of each group the rows
    `start` to `stop` (not included) are taken, one group's above the next one's: that is the weight, (out, in).
    """

    tensor: Annotated[str, Field(max_length=2000)]
    """Name of the tensor, a matrix."""
    transposed: bool = False
    """Whether it is stored as (in, out)."""
    groups: Annotated[int, Field(gt=0, le=2**24)] = 1
    """Equal stretches of its rows: the heads of keys and values, where each is stored beside its queries."""
    start: Annotated[int, Field(ge=0, le=2**24)]
    """First row taken of each group."""
    stop: Annotated[int, Field(gt=0, le=2**24)]
    """Row after the last one taken of each group."""


class Origin(Document):
    """The checkpoint that another one was made from: captured, or converted. Since schema 1.2.

    Nothing of it need be at hand; the digests say whether what is found there still is what was read."""

    location: Annotated[str, Field(max_length=4096)]
    """Path or address of the run or model it is of: ``hf://EleutherAI/pythia-70m``."""
    run: Annotated[str, Field(max_length=300)]
    """What that is called."""
    revision: Annotated[str, Field(max_length=300)] | None = None
    """Its branch, tag or directory."""
    commit: Annotated[str, Field(max_length=64)] | None = None
    """The commit that was read, on the Hub."""
    manifest_sha256: Sha256 | None = None
    """Digest of its manifest, where it was a checkpoint of Pico."""
    files: dict[Annotated[str, Field(max_length=1024)], Sha256] = {}
    """Digest of each file that was read of it: configuration, weights, tokenizer, code."""


class CheckpointManifest(Document):
    """What one sealed checkpoint holds. Written last; never changed afterwards."""

    kind: Literal["checkpoint"] = "checkpoint"
    """Kind of document."""
    schema_version: Annotated[str, Field(pattern=r"^\d+\.\d+$")] = SCHEMA_VERSION
    """Version of the contract it was written under."""
    run_id: RunId
    """Identity of the run, 32 hexadecimal digits."""
    run_name: str
    """Name of the run: its directory and its branch."""
    step: Step
    """Updates done: the weights are those after this many."""
    tokens_seen: Count | None
    """Tokens that the updates up to this step were trained on: each update's batch size × sequence length, added up.
    That is step × batch size × sequence length where the batch size was the same throughout; a run that was resumed
    under another one carries the sum on. Null (since schema 1.2) where no one counted them."""
    created: datetime
    """When the checkpoint was taken, with time zone."""
    producer: Producer
    """Who wrote it."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None
    """Seed of the run; null (since schema 1.2) where it is not known."""
    model: AnySpec
    """The model's geometry."""
    data: DataFingerprint
    """What it is trained on."""
    cursor: DataCursor | None
    """Where in the data it stands; null (since schema 1.2) where that is not known: such a run cannot be resumed."""
    batch_sha256: Sha256 | None = None
    """Digest of the token rows of batch N, the one that the next update consumes, where it was captured."""
    captures: tuple[Capture, ...] = ()
    """What was captured, one entry per split."""
    weights: dict[str, str] = {}
    """Site → name of its tensor in the weights file."""
    weight_slices: dict[str, WeightSlice] = {}
    """Site → where its weight is, of sites that have no tensor of their own: fused projections, and what is stored as
    (in, out). Since schema 1.2; none in what pico-train writes."""
    weights_dtype: str = "float32"
    """Type of the stored weights."""
    weights_sha256: Sha256 | None = None
    """Digest of the weights file; two steps with the same one hold the same weights. Without `weights` (there are
    captures only) it is that of the file which `origin` names."""
    origin: Origin | None = None
    """What it was made from, where that was another maker's checkpoint, or one of another run. Since schema 1.2."""
    metrics: dict[str, float | None] = {}
    """Scalars known at this step: train_loss, val_loss, lr, grad_norm, as far as there are any."""
    files: dict[str, FileEntry]
    """Every file of the checkpoint but this one, by relative path."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_run_name(self.run_name)
        if len(self.files) > MAX_FILES:
            raise ValueError(f"{len(self.files)} files are more than the {MAX_FILES} a checkpoint may have")
        check_paths(self.files)
        for capture in self.captures:
            if capture.file not in self.files:
                raise ValueError(f"capture file {capture.file!r} is not among the files")
        if len({capture.split for capture in self.captures}) != len(self.captures):
            raise ValueError("a split was captured twice")
        for name in (*self.weights, *self.weight_slices):
            self._check_site(name, weighted=True)
        if both := self.weights.keys() & self.weight_slices.keys():
            raise ValueError(f"site {min(both)!r} is both a tensor and a part of one")
        for capture in self.captures:
            self._check_capture(capture)
        return self

    def _check_capture(self, capture: Capture) -> None:
        """Refuse a capture of what the model does not have."""
        for name in capture.activations:
            self._check_site(name, weighted=False)
        for name in capture.gradients:
            self._check_site(name, weighted=True)
        for name in capture.noise:
            self._check_noise(name)

    def _check_noise(self, name: str) -> None:
        """Refuse the noise of a site or block that the model does not have."""
        if name == WHOLE_MODEL:
            return
        layer = parse_block(name)
        if layer is None:
            self._check_site(name, weighted=True)
        elif layer >= self.model.n_layers:
            raise ValueError(f"{name!r} does not exist: the model has layers 0 to {self.model.n_layers - 1}")

    def _check_site(self, name: str, *, weighted: bool) -> None:
        """Refuse a site that the model does not have, or a weight where there is none."""
        site = Site.parse(name)
        if site.layer is not None and site.layer >= self.model.n_layers:
            raise ValueError(f"site {name!r} does not exist: the model has layers 0 to {self.model.n_layers - 1}")
        if weighted and not site.has_weight:
            raise ValueError(f"site {name!r} has no weight: it is {WITHOUT_WEIGHT[site.kind]}")

    @property
    def weighted_sites(self) -> tuple[str, ...]:
        """Sites whose weight is stored, as a tensor or in one, in the order of computation."""
        if not self.weight_slices:
            return tuple(self.weights)
        stored = {*self.weights, *self.weight_slices}
        return tuple(str(site) for site in expand(WEIGHTED_KINDS, self.model.n_layers) if str(site) in stored)

    def capture(self, split: str) -> Capture | None:
        """The capture of this split, or None."""
        return next((capture for capture in self.captures if capture.split == split), None)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.files.values())


class CheckpointEntry(Document):
    """A line of the run's index: one sealed checkpoint."""

    step: Step
    """Its step."""
    tokens_seen: Count | None
    """Tokens consumed before it; null where the manifest says so."""
    manifest_sha256: Sha256
    """Digest of its manifest.json, which in turn holds the digest of everything else."""


class ConfigChange(Document):
    """A change of the configuration when a run was resumed."""

    step: Step
    """Step from which it holds."""
    when: datetime
    """When the run was resumed."""
    field: str
    """Dotted name of the field."""
    before: Any = None
    """Value until then."""
    after: Any = None
    """Value from then on."""


class ValidationRows(FileEntry):
    """The stored validation rows of a run, `validation.parquet` beside this document. Since schema 1.1."""

    n_rows: Count
    """Its rows, each of `DataFingerprint.seq_len` + 1 tokens; `layout.VALIDATION_COLUMNS` says what stands in them."""


Coordinate = str | int | float | bool | None
"""A value of an axis of a suite."""
AxisName = Annotated[str, Field(min_length=1, max_length=200)]


class Membership(Document):
    """Which place of which suite a run has: families of runs that differ in named things. Since schema 1.2."""

    name: str
    """Name of the suite: the directory above its runs'."""
    coordinates: dict[AxisName, Coordinate]
    """Axis → the run's value on it, in the order of the suite's file."""

    @field_validator("name")
    @classmethod
    def _named(cls, name: str) -> str:
        return check_run_name(name)


class Parent(Document):
    """The sealed checkpoint of another run that a run began at: a fork. Since schema 1.2.

    The run has no steps before it; the parent's are its history. Nothing of the parent need be at hand."""

    run_id: RunId
    """Identity of the parent."""
    run_name: str
    """Its name."""
    step: Step
    """Step of the checkpoint, which is also the fork's first."""
    manifest_sha256: Sha256
    """Digest of that checkpoint's manifest, in the parent."""
    location: Annotated[str, Field(max_length=4096)]
    """Path or address at which it was found."""
    optimizer: Literal["kept", "fresh"]
    """Whether the optimizer went on with its state, or began with none."""
    data: Literal["continued", "anew"]
    """Whether the fork's first batch is that at which the parent stood, or begins at the first row of its data."""

    @field_validator("run_name")
    @classmethod
    def _named(cls, name: str) -> str:
        return check_run_name(name)


class RunManifest(Document):
    """What a run is, and the index of its sealed checkpoints. Replaced atomically after each seal."""

    kind: Literal["run"] = "run"
    """Kind of document."""
    schema_version: Annotated[str, Field(pattern=r"^\d+\.\d+$")] = SCHEMA_VERSION
    """Version of the contract it was written under."""
    id: RunId
    """Identity of the run, 32 hexadecimal digits; the name may be reused, this is not."""
    name: str
    """Name: its directory and its branch."""
    created: datetime
    """When the run was begun, with time zone."""
    producer: Producer
    """Who wrote it."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None
    """Seed of the run; null (since schema 1.2) where it is not known."""
    model: AnySpec
    """The model's geometry."""
    data: DataFingerprint
    """What it is trained on."""
    config: dict[str, Any]
    """The resolved configuration."""
    validation: ValidationRows | None = None
    """The validation rows that `val` captures are taken on, where they are stored (since schema 1.1)."""
    environment: dict[str, Any] = {}
    """Software versions, git revision and hardware, as far as known."""
    suite: Membership | None = None
    """The suite that the run is a member of. Since schema 1.2."""
    parent: Parent | None = None
    """The checkpoint of another run that this one was forked from. Since schema 1.2."""
    changes: tuple[ConfigChange, ...] = ()
    """What was changed when the run was resumed."""
    checkpoints: tuple[CheckpointEntry, ...] = ()
    """Sealed checkpoints, by ascending step."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_run_name(self.name)
        steps = [entry.step for entry in self.checkpoints]
        if steps != sorted(set(steps)):
            raise ValueError("checkpoints are not in ascending order of their steps, or one is listed twice")
        return self

    def with_checkpoint(self, entry: CheckpointEntry) -> RunManifest:
        """A copy whose index holds `entry`, in its place; an entry of the same step is replaced."""
        others = [known for known in self.checkpoints if known.step != entry.step]
        index = tuple(sorted([*others, entry], key=lambda item: item.step))
        return self.model_copy(update={"checkpoints": index})


class Evaluation(Document):
    """Results of evaluating one checkpoint: `evaluations/step-N.json`, beside the seal, may be added later."""

    kind: Literal["evaluation"] = "evaluation"
    """Kind of document."""
    schema_version: Annotated[str, Field(pattern=r"^\d+\.\d+$")] = SCHEMA_VERSION
    """Version of the contract it was written under."""
    run_id: RunId
    """Run that was evaluated."""
    step: Step
    """Step that was evaluated."""
    manifest_sha256: Sha256
    """Digest of the manifest of the checkpoint that was evaluated."""
    created: datetime
    """When, with time zone."""
    producer: Producer
    """Who wrote it."""
    tasks: dict[str, dict[str, float | int | str | None]]
    """Results by task, then by measure."""
