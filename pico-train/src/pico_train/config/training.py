"""The sections `model`, `training` and `distributed`: what is trained, how, and on which devices."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticKnownError

from pico_train.config.base import NonNegativeInt, PositiveInt, Section, Seed, Whole
from pico_train.config.optimizer import OptimizerConfig, ScalingConfig
from pico_train.schedules import SCHEDULES, derived_warmup
from pico_train.schedules.base import Anneal

DEFAULT_WARMUP = 0.1
"""Part of the run that is warm-up, where nothing says another."""
Dimension = Annotated[int, Field(gt=0, le=2**24), Whole]
"""A width or a number of heads, bounded as in `ModelSpec`, which says what a checkpoint can hold."""


class ModelConfig(Section):
    """Size of the model. Presets differ in this section only (and in the micro-batch)."""

    d_model: Dimension = 128
    """Width of the residual stream; divisible by n_heads."""
    n_layers: Annotated[int, Field(gt=0, le=4096), Whole] = 4
    """Number of decoder blocks."""
    n_heads: Dimension = 4
    """Number of query heads."""
    n_kv_heads: Dimension = 2
    """Number of key/value heads; divides n_heads."""
    d_ff: Dimension = 512
    """Width inside the SwiGLU feed-forward."""
    vocab_size: Dimension = 4096
    """Rows of embedding and head; at least the tokenizer's vocabulary."""
    rope_theta: Annotated[float, Field(ge=1, le=1e12)] = 10_000.0
    """Base of the rotary embedding's wavelengths."""
    norm_eps: Annotated[float, Field(ge=1e-30, lt=1)] = 1e-6
    """Epsilon of RMSNorm."""
    init: Literal["normal", "scaled"] = "normal"
    """Initial matrices: normal draws all with a deviation of 0.02; scaled those that write to the residual stream
    (attn.o, mlp.down) with 0.02 / √(2 · n_layers), so that its size does not grow with the depth (GPT-2)."""


def _known_schedule(name: str) -> str:
    if name not in SCHEDULES:
        *others, last = (repr(known) for known in SCHEDULES)
        raise PydanticKnownError("literal_error", {"expected": f"{', '.join(others)} or {last}"})
    return name


ScheduleName = Annotated[str, AfterValidator(_known_schedule), Field(json_schema_extra={"enum": list(SCHEDULES)})]


class ScheduleConfig(Section):
    """Learning rate as a pure function of the step."""

    name: ScheduleName = "one_cycle"
    """one_cycle (Smith & Topin 2018), linear or cosine after a warm-up, warm-up-stable-decay, or constant."""
    warmup: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Part of the run that is warm-up. Default: 0.1, unless warmup_steps is set. It is turned into whole steps when the
    run begins, and stays so when the run is made longer."""
    warmup_steps: NonNegativeInt | None = None
    """Updates until the peak, in place of warmup."""
    anneal: Anneal = "cos"
    """Shape of one_cycle's two phases and of wsd's decay."""
    start_factor: Annotated[float, Field(gt=0, le=1)] = 0.04
    """one_cycle: first learning rate over the peak (the inverse of OneCycleLR's div_factor)."""
    end_factor: Annotated[float, Field(ge=0, le=1)] = 4e-6
    """Last learning rate over the peak (one_cycle, wsd); linear and cosine end at zero."""
    decay_fraction: Annotated[float, Field(gt=0, le=1)] = 0.2
    """wsd: part of the run over which the rate decays."""

    @model_validator(mode="before")
    @classmethod
    def _default_warmup(cls, values: Any) -> Any:
        """Fill in the part of the run, so that the resolved configuration says it."""
        if isinstance(values, dict) and values.get("warmup") is None and values.get("warmup_steps") is None:
            return values | {"warmup": DEFAULT_WARMUP}
        return values

    @model_validator(mode="after")
    def _one_warmup(self) -> Self:
        if self.warmup is not None and self.warmup_steps is not None:
            raise ValueError(
                f"training.schedule.warmup={self.warmup:g} and training.schedule.warmup_steps={self.warmup_steps} both "
                "say how long the warm-up is: set one of them"
            )
        return self

    def warmup_of(self, max_steps: int) -> int:
        """Steps of warm-up in a run of `max_steps` updates."""
        if self.warmup_steps is not None:
            return self.warmup_steps
        return derived_warmup(self.name, self.warmup or 0.0, max_steps)


class TrainingConfig(Section):
    """The loop."""

    max_steps: Annotated[int, Field(gt=0, le=10**8 - 1), Whole] = 200
    """Updates in all."""
    batch_size: PositiveInt = 16
    """Rows of the global batch: the same for every number of devices."""
    micro_batch_size: PositiveInt | None = None
    """Rows per forward pass and device; divides batch_size / devices. Default: the whole share of the device."""
    precision: Literal["32-true", "bf16-mixed", "bf16-true", "16-mixed"] = "32-true"
    """Number format: weights-compute."""
    grad_clip: Annotated[float, Field(ge=0, le=1e30)] = 1.0
    """Global gradient norm above which gradients are scaled down; 0 turns clipping off."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile: auto is on for CUDA."""
    recompute: bool = False
    """Keep of each block what goes into it alone, and compute the rest again in the backward pass: less memory, a third
    more operations, the same bits."""
    loss_chunk: Literal["auto"] | NonNegativeInt = "auto"
    """Tokens whose logits are held at once; 0 holds them all; auto: 512 on a CPU and under
    16-mixed, else 4,096."""
    deterministic: bool = False
    """Ask for deterministic kernels on CUDA (CPU runs are deterministic anyway)."""
    init_seed: Seed | None = None
    """Seed of the initial weights; by default derived from the run's seed."""
    on_nonfinite: Literal["stop", "skip"] = "stop"
    """What a NaN or infinite loss or gradient does: stop the run, or skip the update and count it."""
    max_nonfinite: PositiveInt = 5
    """Skipped updates in a row that stop the run."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """What updates the weights."""
    scaling: ScalingConfig = ScalingConfig()
    """What follows the size of the model."""
    schedule: ScheduleConfig = ScheduleConfig()
    """The learning rate's course."""

    def logits_at_once(self, tokens: int, *, device: str) -> int:
        """Of how many of a forward pass's tokens logits are held at once on a kind of device (as torch names it)."""
        if self.loss_chunk == "auto":
            return FEW_LOGITS if device == "cpu" or self.precision == "16-mixed" else MANY_LOGITS
        return self.loss_chunk or tokens


FEW_LOGITS, MANY_LOGITS = 512, 4096
"""Tokens whose logits are held at once where nothing is said. On a CPU more are not faster, and under float16 the
head's gradient, a sum over them, must not overflow. A GPU wants large products, and that gradient, which is read and
written once for each of them, to be a small part."""


class DistributedConfig(Section):
    """Where it runs (Lightning Fabric; also under torchrun and SLURM)."""

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Kind of device."""
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    """auto: ddp on several devices. fsdp: fully sharded (FSDP2)."""
    offload: bool = False
    """fsdp: keep weights, gradients and the optimizer's state in the host's memory, where the update is made too; a
    device holds the blocks that it computes."""
    devices: Annotated[int, Field(gt=0, le=2**16), Whole] | Literal["auto"] = "auto"
    """Devices per node."""
    num_nodes: Annotated[int, Field(gt=0, le=2**16), Whole] = 1
    """Nodes."""
