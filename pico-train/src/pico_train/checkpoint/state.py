"""What is copied off the running model for a checkpoint, and put back on a resume.

A training state is everything but the weights: optimizer, schedule, random numbers, data cursor. On one device and
under DDP it is one dictionary, the same as `fabric.save` writes; under FSDP2 it is sharded with
torch.distributed.checkpoint, in the form Fabric reads (there the model's shards are in it too). Either is loaded on
any number of processes.

Either names the parameters: in one file each group of the optimizer has `param_names` beside `params`, as torch's own
optimizers have when they are made of named parameters; a sharded state is keyed by names.
"""

from __future__ import annotations

import hashlib
import pickle
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from pico_schema import DataCursor, TensorHeaderError, layout
from pico_schema.tensor_header import read_file_header
from pico_train.errors import CheckpointError

STATE_VERSION = 1
_SETTING_OF = {"ns_steps": "muon", "betas": "adamw", "dampening": "sgd", "beta2_decay": "adafactor"}
_LIKE_THE_WEIGHT = ("exp_avg", "exp_avg_sq", "momentum_buffer", "variance")
"""What optimizers keep in the shape of the weight."""


def copy_to_host(tree: Any) -> Any:
    """A copy on the CPU of every tensor in nested dictionaries, lists and tuples.

    From CUDA, all copies are queued into pinned memory first and waited for once.
    """
    pending: list[torch.device] = []
    copied = _copy(tree, pending)
    for device in set(pending):
        torch.cuda.current_stream(device).synchronize()
    return copied


def _copy(item: Any, pending: list[torch.device]) -> Any:
    if isinstance(item, DTensor):
        # `DTensor.from_local` would take a copy on the CPU back to the mesh's device.
        return item.detach().to("cpu", copy=True)
    if isinstance(item, Tensor):
        source = item.detach()
        if source.device.type == "cuda":
            target = torch.empty(source.shape, dtype=source.dtype, pin_memory=True)
            target.copy_(source, non_blocking=True)
            pending.append(source.device)
            return target
        return source.to("cpu", copy=True).contiguous()
    if isinstance(item, Mapping):
        return {key: _copy(value, pending) for key, value in item.items()}
    if isinstance(item, list | tuple):
        return type(item)(_copy(value, pending) for value in item)
    return item


def is_sharded(model: nn.Module) -> bool:
    """Whether the model's parameters are distributed over processes (FSDP2)."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def snapshot_weights(model: nn.Module) -> dict[str, Tensor]:
    """The whole weights on the CPU, as a copy; under FSDP2 all processes call it, and rank 0 gets them.

    A head tied to the embedding is left out, as transformers does.
    """
    if is_sharded(model):
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        state: Mapping[str, Any] = get_model_state_dict(model, options=options)
        return {name: tensor.contiguous() for name, tensor in state.items()}
    seen: set[int] = set()
    unique = {}
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen or tensor.numel() == 0:
            seen.add(tensor.data_ptr())
            unique[name] = tensor
    copied: dict[str, Tensor] = copy_to_host(unique)
    return copied


def seed_rng(seed: int, rank: int) -> None:
    """Seed this process's random number generators: Python's, numpy's and torch's, differently on each process."""
    mixed = int.from_bytes(hashlib.sha256(f"{seed}:{rank}".encode()).digest()[:8], "big")
    random.seed(mixed)
    np.random.seed(mixed % 2**32)
    torch.manual_seed(mixed)


def rng_state() -> dict[str, Any]:
    """The state of this process's random number generators: Python's, numpy's, torch's, and CUDA's current device's."""
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    state: dict[str, Any] = {
        "python": [version, list(internal), gauss],
        "numpy": [str(name), torch.from_numpy(np.asarray(keys).astype(np.int64)), int(position), int(has_gauss),
                  float(cached)],
        "torch": torch.get_rng_state(),
    }  # fmt: skip
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Put back what `rng_state` returned."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def progress(
    *,
    step: int,
    lr: float,
    cursor: DataCursor,
    rng: Sequence[Mapping[str, Any]],
    scaler: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The part of a training state that is the same for every strategy.

    Args:
        step: Updates done.
        lr: Learning rate of the next update; a function of the step, kept so that a resume can check it.
        cursor: Where in the data.
        rng: `rng_state()` of every process, by rank.
        scaler: Under 16-mixed, the loss scale and how long it has been good (`GradScaler.state_dict()`).
    """
    return {
        "version": STATE_VERSION,
        "step": step,
        "scheduler": {"step": step, "lr": lr},
        "cursor": cursor.model_dump(),
        "rng": [dict(item) for item in rng],
        **({"scaler": dict(scaler)} if scaler is not None else {}),
    }


def snapshot_training_state(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    common: Mapping[str, Any],
    *,
    group: Any = None,
) -> dict[str, Any] | Callable[[Path | None], None]:
    """A copy of the training state, ready for a `CheckpointContents`. All processes call it.

    Args:
        model: The bare model, whose parameters the optimizer updates.
        optimizer: Its state is copied.
        common: What `progress` returned.
        group: Under FSDP2, a process group on CPU (gloo) of its own, since the shards are written in the background
            while training uses the others.

    Returns:
        One dictionary; or under FSDP2 a function that writes this process's shards.
    """
    if not is_sharded(model):
        return {"optimizer": _named(copy_to_host(optimizer.state_dict()), model, optimizer), **common}
    from torch.distributed.checkpoint.state_dict import get_model_state_dict, get_optimizer_state_dict

    from pico_train.checkpoint.sharded import sharded_save

    state = copy_to_host(
        {"model": get_model_state_dict(model), "optimizer": get_optimizer_state_dict(model, optimizer)}
    )
    return sharded_save(state, dict(common), group=group)


def parameter_names(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[list[str]]:
    """The names of the parameters in each of the optimizer's groups, as `model.safetensors` has them."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [[names[id(parameter)] for parameter in group["params"]] for group in optimizer.param_groups]


def _named(state: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimizer's state in which each group names its parameters, in the order of their numbers."""
    groups = zip(state["param_groups"], parameter_names(model, optimizer), strict=True)
    return {**state, "param_groups": [{**group, "param_names": names} for group, names in groups]}


def load_weights(model: nn.Module, directory: Path) -> None:
    """Fill the model with a checkpoint's weights; under FSDP2 all processes call it, each keeps its shard.

    Raises:
        CheckpointError: the names or shapes are not this model's.
    """
    from safetensors.torch import load_file
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

    path = directory / layout.WEIGHTS
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    try:
        stored = read_file_header(path).tensors
    except (TensorHeaderError, OSError) as error:
        raise CheckpointError(f"{path}: the weights cannot be read: {error}") from None
    for name, entry in stored.items():
        if expected.get(name) != entry.shape:
            have = expected.get(name, "no such tensor")
            raise CheckpointError(f"{path}: {name} has shape {entry.shape}, this model has {have}")
    weights: dict[str, Any] = load_file(path)
    if is_sharded(model):
        set_model_state_dict(model, weights, options=StateDictOptions(full_state_dict=True))
        return
    missing, _ = model.load_state_dict(weights, strict=False)
    own = {tensor.data_ptr() for name, tensor in model.state_dict().items() if name in weights}
    untied = [name for name in missing if model.state_dict()[name].data_ptr() not in own]
    if untied:
        raise CheckpointError(f"{path}: {untied[0]} is missing")


def load_training_state(
    directory: Path, model: nn.Module, optimizer: torch.optim.Optimizer, *, rank: int = 0
) -> dict[str, Any]:
    """Put the optimizer and this process's random numbers back; all processes call it.

    The number of processes and the strategy may differ from those that saved. A process that has no random state of its
    own gets one that depends on its rank and the step.

    Args:
        directory: The checkpoint.
        model: Bare model, on its device, sharded if it is to be.
        optimizer: Over the model's parameters.
        rank: This process.

    Returns:
        What `progress` had been given: step, scheduler, cursor.

    Raises:
        CheckpointError: the state is unreadable or another model's.
    """
    from pico_train.checkpoint.sharded import is_sharded_state, load_sharded

    folder = directory / layout.TRAINING_STATE
    try:
        if is_sharded_state(folder):
            common = load_sharded(folder, model, optimizer)
        else:
            state = torch.load(folder / "state.ckpt", map_location="cpu", weights_only=True, mmap=True)
            _set_optimizer(model, optimizer, state.pop("optimizer"))
            common = state
        if common.get("version") != STATE_VERSION:
            raise CheckpointError(f"{folder}: training state version {common.get('version')}, expected {STATE_VERSION}")
        states = common.pop("rng")
        if rank < len(states):
            set_rng_state(states[rank])
        else:
            seed_rng(common["step"], rank)
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError, OSError, pickle.UnpicklingError) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{folder}: the training state does not fit this run: {reason}") from error
    return dict(common)


def _kinds(groups: Sequence[Mapping[str, Any]]) -> str:
    """Which optimizers have such groups, by a setting that each alone has."""
    found = [kind for setting, kind in _SETTING_OF.items() if any(setting in group for group in groups)]
    return " and ".join(found) or "an unknown kind"


def _set_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load a whole optimizer state, keyed by parameter number, into this optimizer, sharding it where it is sharded."""
    groups, names = optimizer.param_groups, parameter_names(model, optimizer)
    saved = [dict(group) for group in state["param_groups"]]
    sizes = [len(group["params"]) for group in groups]
    ours, theirs = _kinds(groups), _kinds(saved)
    if ours != theirs:
        raise CheckpointError(
            f"the state is of {theirs}, the run's optimizer is {ours}: a run keeps the optimizer that it began with"
        )
    if sizes != [len(group["params"]) for group in saved]:
        raise CheckpointError(f"the optimizer has groups of {sizes} parameters, not those of the checkpoint")
    for own, group in zip(names, saved, strict=True):
        stored = group.pop("param_names", own)  # states of pico-train 2.0 do not name them
        differs = next((pair for pair in zip(own, stored, strict=True) if pair[0] != pair[1]), None)
        if differs is not None:
            raise CheckpointError(f"the optimizer has {differs[0]} where the checkpoint has {differs[1]}")
    if not is_sharded(model):
        for number, parameter in enumerate(p for group in groups for p in group["params"]):
            kept = state["state"].get(number, {})
            for moment in (kept[name] for name in _LIKE_THE_WEIGHT if kept.get(name) is not None):
                if moment.shape != parameter.shape:
                    raise CheckpointError(
                        f"optimizer parameter {number} has shape {tuple(parameter.shape)}, "
                        f"the checkpoint has {tuple(moment.shape)}"
                    )
        # copied, since the file is mapped and the optimizer updates in place
        optimizer.load_state_dict(copy_to_host({**state, "param_groups": saved}))
        return
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict

    order = [name for group in names for name in group]
    by_name: Any = {
        "state": {order[number]: copy_to_host(values) for number, values in state["state"].items()},
        "param_groups": [{**group, "params": [order[number] for number in group["params"]]} for group in saved],
    }
    set_optimizer_state_dict(model, optimizer, by_name, options=StateDictOptions(full_state_dict=True))
