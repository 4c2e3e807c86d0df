"""The configuration of a run: one strict, immutable tree. Each field's docstring is its help.

Unknown keys, wrong types and impossible combinations fail here, before anything starts. The larger sections are in
modules of their own beside this one.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from pico_schema import ModelSpec
from pico_schema.layout import check_run_name
from pico_train.config.base import Listed, PositiveInt, Section, Seed, divisors
from pico_train.config.checkpoints import CapturesConfig, CheckpointConfig, EvaluationConfig
from pico_train.config.data import DataConfig
from pico_train.config.training import DistributedConfig, ModelConfig, TrainingConfig

_MOST_TOKENS_SEEN = 2**62
"""Largest number of tokens that a checkpoint's manifest counts."""


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
    timeout: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    """Seconds to wait for an answer of the Hub."""
    slowest_upload: Annotated[float, Field(ge=1e-6, le=1e6)] = 0.1
    """MB/s below which an upload is taken for hung and begun again."""
    retry_wait: Annotated[float, Field(gt=0, le=86_400)] = 2.0
    """Seconds before the first retry; doubled each time, with jitter."""
    retry_wait_max: Annotated[float, Field(gt=0, le=86_400)] = 300.0
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
    group: str | None = None
    """Group that wandb shows runs of together, such as a family's name."""
    tags: Listed[Annotated[str, Field(min_length=1, max_length=64)]] = ()
    """Tags, by which runs are found."""


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
            near = max(m for m in divisors(training.batch_size) if m <= micro)
            raise ValueError(
                f"training.micro_batch_size={micro} does not divide training.batch_size={training.batch_size}: "
                f"{near} would"
            )
        parts = self.captures.noise
        if parts is not None and not self.captures.train.enabled:
            raise ValueError(f"captures.noise={parts} is of the training batch, and captures.train.enabled is false")
        if parts is not None and training.batch_size % parts:
            fits = [d for d in divisors(training.batch_size) if d > 1]
            ways = f"{max((d for d in fits if d <= parts), default=fits[0])} would" if fits else "one row has no parts"
            raise ValueError(
                f"captures.noise={parts} does not divide training.batch_size={training.batch_size} into equal parts: "
                f"{ways}"
            )
        warmup = schedule.warmup_steps
        if schedule.name != "constant" and warmup is not None and warmup >= training.max_steps > 1:
            raise ValueError(
                f"training.schedule.warmup_steps={warmup} leaves nothing of training.max_steps={training.max_steps}: "
                "set fewer, or training.schedule.warmup, a part of the run"
            )
        self._follows_size()
        self._can_offload()
        if training.max_steps * self.tokens_per_step > _MOST_TOKENS_SEEN:
            raise ValueError(
                f"training.max_steps={training.max_steps} updates of {self.tokens_per_step:,} tokens are more tokens "
                f"than can be counted ({_MOST_TOKENS_SEEN}): lower max_steps, batch_size or data.seq_len"
            )
        return self

    def _can_offload(self) -> None:
        """Refuse to offload what is not sharded, or what a loss scaler has to look at on the device."""
        if not self.distributed.offload:
            return
        if self.distributed.strategy != "fsdp":
            raise ValueError(
                f"distributed.offload=true is of distributed.strategy=fsdp, and it is {self.distributed.strategy}: set "
                "it to fsdp, or leave distributed.offload out"
            )
        if self.training.precision == "16-mixed":
            raise ValueError("distributed.offload=true does not go with training.precision=16-mixed: use bf16-mixed")

    def _follows_size(self) -> None:
        """Refuse what contradicts the rule by which settings follow the size."""
        training, rule = self.training, self.training.scaling.rule
        optimizer = training.optimizer.name
        if rule == "ladder":
            lr, rows = training.scaling.ladder(self.spec)
            for field, found, wanted in (
                ("optimizer.lr", training.optimizer.lr, lr),
                ("batch_size", training.batch_size, rows),
            ):
                if found != wanted:
                    raise ValueError(
                        f"training.{field}={found} is not what training.scaling.rule=ladder makes of the "
                        f"base, {wanted}: leave it out, or change training.scaling.base_{field.rpartition('.')[2]}"
                    )
        if rule == "mup" and optimizer == "adafactor":
            raise ValueError(
                "training.scaling.rule=mup is not defined for training.optimizer.name=adafactor, whose steps follow "
                "the size of the weights themselves: use adamw, muon or sgd, or training.scaling.rule=none"
            )
        if optimizer == "adafactor" and self.distributed.strategy == "fsdp":
            raise ValueError(
                "training.optimizer.name=adafactor cannot update weights that distributed.strategy=fsdp has divided "
                "(torch's has no form for them): use distributed.strategy=ddp, or another optimizer"
            )

    @property
    def spec(self) -> ModelSpec:
        """The model's geometry."""
        return ModelSpec(**self.model.model_dump(exclude={"init"}), max_seq_len=self.data.seq_len)

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
