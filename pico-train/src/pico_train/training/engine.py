"""The machine a run trains on: Fabric, the model on its devices, the optimizer, and how ranks agree.

Decides how a configuration becomes devices, processes, number formats and shards. What a step does with them is
`loop`'s business.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy, ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from pico_schema import ModelSpec
from pico_train.config import RunConfig
from pico_train.counting import counted
from pico_train.errors import ConfigError
from pico_train.model.decoder import Decoder
from pico_train.model.width import Width
from pico_train.training import launch
from pico_train.training.allocator import keep_freed_memory
from pico_train.training.optimizer import optimizer_of

T = TypeVar("T")


@dataclass
class Engine:
    """A model, its optimizer and the processes that train it."""

    fabric: Fabric
    decoder: Decoder
    """The bare model: names, hooks, state."""
    model: nn.Module
    """The same, wrapped by Fabric: what a training step calls."""
    optimizer: torch.optim.Optimizer
    """The bare optimizer: state, learning rate."""
    stepper: Any
    """The same, wrapped by Fabric: what applies an update (and a loss scaler, under 16-mixed)."""

    @property
    def device(self) -> torch.device:
        """This process's device."""
        return self.fabric.device

    @property
    def world_size(self) -> int:
        """Number of processes."""
        return self.fabric.world_size

    @property
    def rank(self) -> int:
        """This process's number."""
        return self.fabric.global_rank

    @property
    def is_rank_zero(self) -> bool:
        """Whether this is rank 0, the process that writes and prints."""
        return self.fabric.global_rank == 0

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Trainable parameters."""
        return [parameter for parameter in self.decoder.parameters() if parameter.requires_grad]

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        """Element-wise sum over all processes; a collective, so every process must call it."""
        if self.world_size == 1:
            return values
        total: Tensor = self.fabric.all_reduce(values, reduce_op="sum")  # type: ignore[assignment]
        return total

    def first_said(self, answer: str | None) -> str | None:
        """The answer of the first process that has one, on every process; a collective."""
        if self.world_size == 1:
            return answer
        if not self.sum_over_ranks(torch.tensor(float(answer is not None), device=self.device)).item():
            return None
        return next(each for each in self.gather(answer) if each is not None)

    def gather(self, item: T) -> list[T]:
        """Everybody's item (anything that can be pickled), by rank; a collective."""
        if self.world_size == 1:
            return [item]
        items: list[Any] = [None] * self.world_size
        dist.all_gather_object(items, item)
        return items

    @contextlib.contextmanager
    def accumulating(self, more: bool) -> Iterator[None]:
        """Inside, gradients stay on this process if `more` micro-batches of the step are to come."""
        if self.world_size == 1:
            yield
        else:
            with self.fabric.no_backward_sync(self.model, enabled=more):  # type: ignore[arg-type]
                yield

    @property
    def scaler(self) -> torch.amp.GradScaler | None:
        """What scales the loss under 16-mixed; None elsewhere."""
        return getattr(self.fabric.strategy.precision, "scaler", None)

    def unscale_gradients(self) -> None:
        """Turn scaled gradients (16-mixed) into true ones, in place; elsewhere nothing."""
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)

    @property
    def can_lower_scale(self) -> bool:
        """Whether gradients that are not finite may be float16's overflow, which a smaller scale mends."""
        return self.scaler is not None and self.scaler.get_scale() > 1.0

    def lower_scale(self) -> None:
        """Halve the loss scale, and forget that this step's gradients were unscaled."""
        assert self.scaler is not None
        self.scaler.update(self.scaler.get_scale() / 2)

    def forget_unscaled(self) -> None:
        """Forget that this step's gradients were unscaled, where they are not used: the scale stays as it is."""
        if self.scaler is not None:
            self.scaler.update(self.scaler.get_scale())

    def gradient_norm(self) -> Tensor:
        """Global Euclidean norm of all gradients, a scalar on the device; a collective where parameters are sharded."""
        grads = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        return whole(torch.nn.utils.get_total_norm(grads))

    def clip_gradients(self, max_norm: float, norm: Tensor) -> None:
        """Scale all gradients by max_norm / norm where the norm is larger (Pascanu et al. 2013, section 3.2)."""
        torch.nn.utils.clip_grads_with_norm_(self.parameters, max_norm, norm)


def whole(tensor: Tensor) -> Tensor:
    """A sharded tensor gathered on every process (a collective); any other as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def build_fabric(config: RunConfig) -> Fabric:
    """Choose devices, strategy and number format; nothing is launched yet.

    Raises:
        ConfigError: more devices than there are, a precision the device lacks, or rows that do not divide.
    """
    _quieten()
    wanted = config.distributed
    accelerator = wanted.accelerator
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    there = _device_count(accelerator)
    if there == 0:
        raise ConfigError(f"distributed.accelerator={accelerator}: this machine has none; use auto or cpu")
    launched = launch.launched_world()
    devices, nodes = launched or (there if accelerator == "cuda" else 1, wanted.num_nodes)
    if wanted.devices != "auto":
        devices = wanted.devices
    if launched and (devices, nodes) != launched:
        where = "here" if launched[1] == 1 else f"on each of {launched[1]} nodes"
        raise ConfigError(
            f"distributed.devices={devices} contradicts the launcher, which started "
            f"{counted(launched[0], 'process', 'processes')} {where}: leave distributed.devices at auto"
        )
    if accelerator != "cpu" and devices > there:
        raise ConfigError(f"distributed.devices={devices}: this machine has {counted(there, f'{accelerator} device')}")
    _check_precision(config.training.precision, accelerator)
    world = devices * nodes
    _check_rows(config, world)
    strategy: Any = "auto"
    if wanted.strategy == "fsdp":
        strategy = ModelParallelStrategy(
            parallelize_fn=_Shard(config.training.precision, offload=wanted.offload),
            process_group_backend="cpu:gloo,cuda:nccl" if wanted.offload and accelerator == "cuda" else None,
            data_parallel_size=world,
            tensor_parallel_size=1,
            timeout=launch.JOINING,
        )
    elif world > 1 or wanted.strategy == "ddp":
        strategy = DDPStrategy(
            static_graph=False, broadcast_buffers=False, gradient_as_bucket_view=True, timeout=launch.JOINING
        )
    return Fabric(
        accelerator=accelerator,
        devices=devices,
        num_nodes=nodes,
        strategy=strategy,
        precision=config.training.precision,
    )


def _quieten() -> None:
    """Fabric announces processes and number formats, and warns of its own calls: the run's first line says enough."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=FutureWarning, module="lightning_fabric")
    warnings.filterwarnings("ignore", message="torch.distributed.nn.functional.all_gather is deprecated")


def _device_count(accelerator: str) -> int:
    if accelerator == "cuda":
        return torch.cuda.device_count()
    if accelerator == "mps":
        return int(torch.backends.mps.is_available())
    return 2**16  # processes on a CPU are bounded by memory, not by a count


def _check_precision(precision: str, accelerator: str) -> None:
    if precision == "16-mixed" and accelerator == "cpu":
        raise ConfigError(
            "training.precision=16-mixed: a CPU has no loss scaling for float16; use bf16-mixed or 32-true"
        )
    if precision.startswith("bf16") and accelerator == "cuda" and not torch.cuda.is_bf16_supported():
        raise ConfigError(f"training.precision={precision}: this GPU has no bfloat16; use 16-mixed or 32-true")


def _check_rows(config: RunConfig, world: int) -> None:
    batch, micro = config.training.batch_size, config.training.micro_batch_size
    if batch % world:
        raise ConfigError(f"training.batch_size={batch} does not divide over {counted(world, 'device')}")
    if micro is not None and (batch // world) % micro:
        raise ConfigError(
            f"training.micro_batch_size={micro} does not divide the share of "
            f"{counted(batch // world, 'row')} that "
            f"a device takes of training.batch_size={batch}"
        )


class _Shard:
    """FSDP2: each block is a unit of its own, the rest another."""

    def __init__(self, precision: str, *, offload: bool = False) -> None:
        self.precision, self.offload = precision, offload

    def __call__(self, module: nn.Module, mesh: Any) -> nn.Module:
        from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard

        policy = MixedPrecisionPolicy()
        if self.precision == "bf16-mixed":
            policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        data_mesh = mesh["data_parallel"]
        place = CPUOffloadPolicy(pin_memory=data_mesh.device_type == "cuda") if self.offload else OffloadPolicy()
        assert isinstance(module, Decoder)
        for block in module.model.layers:
            fully_shard(block, mesh=data_mesh, mp_policy=policy, offload_policy=place)
        fully_shard(module, mesh=data_mesh, mp_policy=policy, offload_policy=place)
        return module


def set_up(fabric: Fabric, config: RunConfig, spec: ModelSpec, separator: int | None = None) -> Engine:
    """Build the model with its initial weights on its devices, and the optimizer.

    Every process calls this after `fabric.launch`. With a `separator`, the id of the token that ends a document,
    attention stays within documents.
    """
    if config.training.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS refuses to be deterministic
    torch.use_deterministic_algorithms(config.training.deterministic)
    if fabric.device.type == "cpu":
        keep_freed_memory()
    if fabric.device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = not config.training.deterministic
    decoder = Decoder(spec, separator=separator)
    decoder.model.recompute = config.training.recompute
    width, scaled = width_of(config, spec), config.model.init == "scaled"
    if config.distributed.strategy != "fsdp":
        decoder.init_weights(config.sub_seed("weights"), scaled=scaled, width=width)
    if config.training.compile == "on" or (config.training.compile == "auto" and fabric.device.type == "cuda"):
        decoder.compile_blocks()
    model = fabric.setup_module(decoder, _reapply_compile=False)
    if config.distributed.strategy == "fsdp":
        decoder.to("cpu" if config.distributed.offload else fabric.device)
        decoder.init_weights(config.sub_seed("weights"), scaled=scaled, width=width)
    optimizer = optimizer_of(decoder, config.training.optimizer, width)
    return Engine(fabric, decoder, model, optimizer, fabric.setup_optimizers(optimizer))


def width_of(config: RunConfig, spec: ModelSpec) -> Width | None:
    """How wide a model is over its base, where a configuration lets initial weights and learning rates follow it."""
    scaling = config.training.scaling
    if scaling.rule != "mup":
        return None
    assert scaling.base_d_model is not None
    return Width.of(spec, base_d_model=scaling.base_d_model, base_head_dim=scaling.base_head_dim)
