"""The configuration of a run: one strict, immutable tree. Each field's docstring is its help.

Unknown keys, wrong types and impossible combinations fail here, before anything starts. Where the values come from
(a preset, a file, ``--set``) is `settings.py`'s business.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pico_schema import ModelSpec
from pico_schema.layout import check_run_name
from pico_schema.sites import check_kind

PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Section(BaseModel):
    """Base of every part of the tree."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True)


class ModelConfig(Section):
    """Size of the model. Presets differ in this section only (and in the micro-batch)."""

    d_model: PositiveInt = 128
    """Width of the residual stream; divisible by n_heads."""
    n_layers: Annotated[int, Field(gt=0, le=4096)] = 4
    """Number of decoder blocks."""
    n_heads: PositiveInt = 4
    """Number of query heads."""
    n_kv_heads: PositiveInt = 2
    """Number of key/value heads; divides n_heads."""
    d_ff: PositiveInt = 512
    """Width inside the SwiGLU feed-forward."""
    vocab_size: PositiveInt = 4096
    """Rows of embedding and head; at least the tokenizer's vocabulary."""
    rope_theta: Annotated[float, Field(gt=0)] = 10_000.0
    """Base of the rotary embedding's wavelengths."""
    norm_eps: Annotated[float, Field(gt=0, lt=1)] = 1e-6
    """Epsilon of RMSNorm."""


class DataConfig(Section):
    """What is trained on, and in which order."""

    source: Literal["stdlib", "text", "tokens", "hub"] = "stdlib"
    """stdlib: the text of this Python's standard library. text: files, folders or globs. tokens: a directory of Parquet
    shards with a column input_ids. hub: such shards in a dataset repository."""
    paths: tuple[str, ...] = ()
    """Files, folders or globs, for source text; the directory, for source tokens."""
    repo: str | None = None
    """Dataset repository, org/name, for source hub."""
    revision: str | None = None
    """Branch, tag or commit of the repository; the commit it resolves to is pinned in the run."""
    subset: str | None = None
    """Folder inside the directory or repository that holds the shards."""
    text_column: str = "text"
    """Column or JSON field that holds the text, for source text."""
    tokenizer: str | None = None
    """train:N (a byte-level BPE of N tokens trained on the corpus), a directory, or a name on the Hub. Default:
    train:4096 for text; for tokens, the one that lies with the shards."""
    seq_len: Annotated[int, Field(gt=1, le=2**20)] = 256
    """Tokens per row that are predicted; rows hold one more."""
    order: Literal["shuffled", "sequential"] = "shuffled"
    """shuffled: a keyed permutation, re-keyed each epoch. sequential: as stored (for corpora shuffled beforehand).
    Default: sequential for tokens and hub, else shuffled."""
    seed: Seed | None = None
    """Seed of the order; by default derived from the run's seed."""
    encoding_errors: Literal["refuse", "replace"] = "refuse"
    """What to do with a text file that is not UTF-8."""
    val_rows: PositiveInt = 64
    """Rows of the fixed validation set."""
    val_paths: tuple[str, ...] = ()
    """Held-out text files, or a directory of held-out shards. Default: the split that lies with the shards, else a part
    of the corpus: val_fraction of the documents of a text, the last val_rows rows of other shards."""
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Part of a text's documents that is held out, chosen by hash, where val_paths names none."""
    prefetch: Annotated[int, Field(ge=0, le=1024)] = 4
    """Batches read ahead of the training step."""
    cache_gb: Annotated[float, Field(gt=0)] = 20.0
    """Bound of the local cache of a hub source, in GiB; at least two shards are kept whatever it says."""
    shards_ahead: Annotated[int, Field(ge=0, le=64)] = 2
    """Shards of a hub source that are fetched ahead of the one being read."""
    log_digests: bool = False
    """Write the sha256 of every batch to metrics.jsonl."""

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_source(cls, values: Any) -> Any:
        """Fill in what depends on the source, so that the resolved configuration says it."""
        if not isinstance(values, dict):
            return values
        tokens = values.get("source", "stdlib") in ("tokens", "hub")
        filled = dict(values)
        if filled.get("order") is None:
            filled["order"] = "sequential" if tokens else "shuffled"
        if filled.get("tokenizer") is None and not tokens:
            filled["tokenizer"] = "train:4096"
        return filled

    @model_validator(mode="after")
    def _possible_source(self) -> Self:
        if self.source in ("text", "tokens") and not self.paths:
            raise ValueError(f"data.source={self.source} needs data.paths, such as --set data.paths=[my/corpus]")
        if self.source == "tokens" and len(self.paths) > 1:
            raise ValueError(f"data.source=tokens reads one directory, {len(self.paths)} are in data.paths")
        if self.source == "hub" and not self.repo:
            raise ValueError("data.source=hub needs data.repo, such as --set data.repo=pico-lm/pretokenized-dolma")
        if self.source == "hub" and self.order == "shuffled":
            raise ValueError(
                "data.order=shuffled would fetch every shard of data.source=hub for each batch: set "
                "data.order=sequential, or download the shards and use data.source=tokens"
            )
        if self.source in ("tokens", "hub") and (self.tokenizer or "").startswith("train:"):
            raise ValueError(
                f"data.tokenizer={self.tokenizer} cannot be trained on data.source={self.source}, which holds token "
                "ids: name the tokenizer they were made with"
            )
        return self


class OptimizerConfig(Section):
    """AdamW (Loshchilov & Hutter 2019)."""

    lr: Annotated[float, Field(gt=0)] = 3e-4
    """Peak learning rate."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Decay of the first moment."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """Decay of the second moment."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """Added to the root of the second moment."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """Decoupled weight decay."""
    decay: Literal["matrices", "all", "none"] = "matrices"
    """Which parameters decay: matrices (all but the norms' scales), all, or none."""


class ScheduleConfig(Section):
    """Learning rate as a pure function of the step."""

    name: Literal["one_cycle", "linear", "cosine", "wsd", "constant"] = "one_cycle"
    """one_cycle (Smith & Topin 2018), linear or cosine after a warm-up, warm-up-stable-decay, or constant."""
    warmup_steps: NonNegativeInt = 20
    """Updates until the peak."""
    anneal: Literal["cos", "linear"] = "cos"
    """Shape of one_cycle's two phases and of wsd's decay."""
    start_factor: Annotated[float, Field(gt=0, le=1)] = 0.04
    """one_cycle: first learning rate over the peak (the inverse of OneCycleLR's div_factor)."""
    end_factor: Annotated[float, Field(ge=0, le=1)] = 4e-6
    """Last learning rate over the peak (one_cycle, wsd); linear and cosine end at zero."""
    decay_fraction: Annotated[float, Field(gt=0, le=1)] = 0.2
    """wsd: part of the run over which the rate decays."""


class TrainingConfig(Section):
    """The loop."""

    max_steps: Annotated[int, Field(gt=0, le=10**8 - 1)] = 200
    """Updates in all."""
    batch_size: PositiveInt = 16
    """Rows of the global batch: the same for every number of devices."""
    micro_batch_size: PositiveInt | None = None
    """Rows per forward pass and device; divides batch_size / devices. Default: the whole share of the device."""
    precision: Literal["32-true", "bf16-mixed", "bf16-true", "16-mixed"] = "32-true"
    """Number format: weights-compute."""
    grad_clip: Annotated[float, Field(ge=0)] = 1.0
    """Global gradient norm above which gradients are scaled down; 0 turns clipping off."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile: auto is on for CUDA."""
    loss_chunk: NonNegativeInt = 512
    """Tokens whose logits are held at once; 0 holds them all."""
    deterministic: bool = False
    """Ask for deterministic kernels on CUDA (CPU runs are deterministic anyway)."""
    init_seed: Seed | None = None
    """Seed of the initial weights; by default derived from the run's seed."""
    on_nonfinite: Literal["stop", "skip"] = "stop"
    """What a NaN or infinite loss or gradient does: stop the run, or skip the update and count it."""
    max_nonfinite: PositiveInt = 5
    """Skipped updates in a row that stop the run."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """AdamW's settings."""
    schedule: ScheduleConfig = ScheduleConfig()
    """The learning rate's course."""


class DistributedConfig(Section):
    """Where it runs (Lightning Fabric; also under torchrun and SLURM)."""

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Kind of device."""
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    """auto: ddp on several devices. fsdp: fully sharded (FSDP2)."""
    devices: Annotated[int, Field(gt=0)] | Literal["auto"] = "auto"
    """Devices per node."""
    num_nodes: PositiveInt = 1
    """Nodes."""


class Cadence(Section):
    """At which steps something happens: a pure function of the step."""

    early: NonNegativeInt | None = 512
    """Steps 0, 1, 2, 4 … up to this one; null for none."""
    every: PositiveInt | None = 1000
    """Then every this many steps; null for none."""
    at: tuple[NonNegativeInt, ...] = ()
    """And at these steps."""
    last: bool = True
    """And at the last step."""


class KeepPolicy(Section):
    """Which training states stay on disk; weights and captures are never deleted."""

    last: PositiveInt | None = None
    """Keep the newest this many; null keeps all."""
    every: PositiveInt | None = None
    """Besides, keep those at multiples of this step."""


class CheckpointConfig(Section):
    """When checkpoints are taken. Weights are saved wherever training state or captures are."""

    weights: Cadence = Cadence()
    """Weights, tokenizer and batch."""
    training_state: Cadence = Cadence()
    """Optimizer, schedule, random numbers: what a resume or a fork needs."""
    captures: Cadence = Cadence()
    """Activations and gradients."""
    keep: KeepPolicy = KeepPolicy()
    """Which training states stay."""


Positions = Literal["last", "all"] | Annotated[int, Field(gt=0)]


class CaptureSplit(Section):
    """What is kept of one split."""

    enabled: bool = True
    """Whether to capture this split."""
    rows: PositiveInt | None = None
    """Rows of which activations are kept, evenly spaced; null for all. Gradients are always over all rows."""
    positions: Positions = "last"
    """Positions kept in each row: last, all, or this many evenly spaced."""


class CapturesConfig(Section):
    """Activations and gradients kept with a checkpoint."""

    sites: tuple[str, ...] = ("attn.v", "attn.o", "mlp.down")
    """Site kinds: attn.q|k|v|o, mlp.gate|up|down, resid, embed, norm.final, head."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of stored activations and gradients."""
    train: CaptureSplit = CaptureSplit()
    """Captures on batch N, taken from the training step itself."""
    val: CaptureSplit = CaptureSplit(positions=8)
    """Captures on the fixed validation rows."""
    moments: bool = False
    """Also keep AdamW's first and second moments of the sites' weights."""
    per_row_loss: bool = False
    """Also keep the mean token loss of each row."""

    @field_validator("sites")
    @classmethod
    def _known(cls, sites: tuple[str, ...]) -> tuple[str, ...]:
        for site in sites:
            check_kind(site)
        if not sites:
            raise ValueError("name at least one site, or turn both splits off")
        return tuple(dict.fromkeys(sites))


class EvaluationConfig(Section):
    """Loss and perplexity on the validation rows."""

    cadence: Cadence = Cadence()
    """When to evaluate."""
    batch_size: PositiveInt = 16
    """Rows per forward pass."""


class PublishConfig(Section):
    """Publishing checkpoints as revisions on the Hugging Face Hub. Off unless repo is set."""

    repo: str | None = None
    """Model repository, org/name."""
    private: bool = False
    """Whether a repository that is created is private."""
    license: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] = "apache-2.0"
    """Licence in the model card, by the Hub's short name."""
    collection: str | None = None
    """Slug of a collection to add the repository to."""
    commits_per_hour: PositiveInt = 120
    """Stay under this many commits per hour (the Hub's limit is about 128)."""
    timeout: Annotated[float, Field(gt=0)] = 60.0
    """Seconds to wait for an answer of the Hub."""
    slowest_upload: Annotated[float, Field(gt=0)] = 0.1
    """MB/s below which an upload is taken for hung and begun again."""
    retry_wait: Annotated[float, Field(gt=0)] = 2.0
    """Seconds before the first retry; doubled each time, with jitter."""
    retry_wait_max: Annotated[float, Field(gt=0)] = 300.0
    """Longest wait between retries, in seconds."""

    @field_validator("repo")
    @classmethod
    def _is_repository(cls, repo: str | None) -> str | None:
        if repo is not None and (
            not re.fullmatch(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*", repo, re.ASCII)
            or len(repo) > 96
            or repo.endswith((".", "-", ".git", ".ipynb"))
            or "--" in repo
            or ".." in repo
        ):
            raise ValueError(
                f"{repo!r} is not the name of a repository: write it as org/name, at most 96 letters, digits, '.', "
                "'_' or '-', without '--' and '..'"
            )
        return repo


class WandbConfig(Section):
    """Weights & Biases."""

    mode: Literal["disabled", "offline", "online"] = "disabled"
    """offline needs no account and no network."""
    project: str = "pico"
    """Project."""
    entity: str | None = None
    """User or team."""


class MonitoringConfig(Section):
    """What is logged."""

    log_every: PositiveInt = 10
    """Steps between lines of metrics."""
    wandb: WandbConfig = WandbConfig()
    """Weights & Biases."""


class RunConfig(Section):
    """A run, resolved."""

    name: str = "demo"
    """Name of the run: its directory and its branch."""
    out: str = "runs"
    """Directory in which the run's directory is made."""
    seed: Seed = 42
    """Seed of everything: the initial weights and the data order derive theirs from it."""
    model: ModelConfig = ModelConfig()
    """Size of the model."""
    data: DataConfig = DataConfig()
    """What is trained on."""
    training: TrainingConfig = TrainingConfig()
    """The loop."""
    distributed: DistributedConfig = DistributedConfig()
    """Where it runs."""
    captures: CapturesConfig = CapturesConfig()
    """What is kept of the inside."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """When checkpoints are taken."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """Validation loss."""
    publish: PublishConfig = PublishConfig()
    """Publishing."""
    monitoring: MonitoringConfig = MonitoringConfig()
    """Logging."""

    @field_validator("name")
    @classmethod
    def _nameable(cls, name: str) -> str:
        try:
            return check_run_name(name)
        except Exception as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _possible(self) -> Self:
        self.spec  # noqa: B018 - the geometry's own validator names what is impossible
        training, schedule = self.training, self.training.schedule
        micro = training.micro_batch_size
        if micro is not None and training.batch_size % micro:
            fits = [m for m in range(1, training.batch_size + 1) if training.batch_size % m == 0]
            near = max((m for m in fits if m <= micro), default=1)
            raise ValueError(
                f"training.micro_batch_size={micro} does not divide training.batch_size={training.batch_size}: "
                f"{near} would"
            )
        if schedule.name != "constant" and schedule.warmup_steps >= training.max_steps > 1:
            raise ValueError(
                f"training.schedule.warmup_steps={schedule.warmup_steps} leaves nothing of "
                f"training.max_steps={training.max_steps}: set fewer warm-up steps"
            )
        return self

    @property
    def spec(self) -> ModelSpec:
        """The model's geometry."""
        return ModelSpec(**self.model.model_dump(), max_seq_len=self.data.seq_len)

    @property
    def tokens_per_step(self) -> int:
        """Tokens that one update trains on."""
        return self.training.batch_size * self.data.seq_len

    def sub_seed(self, purpose: Literal["weights", "data"]) -> int:
        """The seed of the initial weights or of the data order: set, or derived from the run's seed."""
        chosen = self.training.init_seed if purpose == "weights" else self.data.seed
        if chosen is not None:
            return chosen
        return int.from_bytes(hashlib.sha256(f"{purpose}:{self.seed}".encode()).digest()[:7], "big")
