"""The training state of a sharded model: torch.distributed.checkpoint, in the layout that Fabric reads.

A directory with one file of shards per process, `.metadata` that says what is where, and `meta.pt` with the rest.
Loading works on any number of processes, sharded or not.
"""

from __future__ import annotations

import io
import pickle
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint._nested_dict import set_element
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import ReadItem
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict, set_optimizer_state_dict

from pico_train.checkpoint.storage import Disk, write_file
from pico_train.errors import CheckpointError, StorageError

META_FILE = "meta.pt"
"""Fabric's name for the part of a sharded state that is not sharded."""
INDEX_FILE = ".metadata"
"""torch.distributed.checkpoint's name for its index."""


def is_sharded_state(folder: Path) -> bool:
    """Whether a training state is sharded, rather than one file."""
    return (folder / INDEX_FILE).is_file()


def sharded_save(
    state: Mapping[str, Any], common: Mapping[str, Any], *, group: Any, disk: Disk | None = None
) -> Callable[[Path | None], None]:
    """A function that writes `state` (this process's shards, on the CPU) and, on rank 0, `common`.

    Each process calls the function from a thread of its own; `group` keeps what they say to each other apart from
    training.
    """

    def save(folder: Path | None) -> None:
        decided = [None if folder is None else str(folder)]
        dist.broadcast_object_list(decided, src=0, group=group, device=torch.device("cpu"))
        if decided[0] is None:
            return
        path = Path(decided[0])
        writer = dcp.FileSystemWriter(path, single_file_per_rank=True, sync_files=True)
        try:
            dcp.save(dict(state), storage_writer=writer, process_group=group)
        except dcp.CheckpointException as error:
            raise StorageError(f"{path.parent}: {_reasons(error)}; earlier checkpoints are intact") from error
        if dist.get_rank() == 0:
            buffer = io.BytesIO()
            torch.save(dict(common), buffer)
            write_file(disk or Disk(), path / META_FILE, [buffer.getbuffer()])

    return save


def _reasons(error: dcp.CheckpointException) -> str:
    """What went wrong on which process."""
    return "; ".join(f"process {rank}: {failure[0]}" for rank, failure in sorted(error.failures.items()))


def load_sharded(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Fill the optimizer from a sharded state, whatever the present number of processes.

    Returns:
        What was saved as `common`.

    Raises:
        CheckpointError: the state is another model's, or damaged, or its index names classes that no index has.
    """
    # Before the first update there are no moments, and the optimizer stays as it was made.
    if any(name.startswith("optimizer.state.") for name in _Reader(folder).read_metadata().state_dict_metadata):
        state = {"optimizer": get_optimizer_state_dict(model, optimizer)}
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="torch.distributed is disabled")
                dcp.load(state, storage_reader=_Reader(folder), planner=_Planner(), no_dist=not dist.is_initialized())
        except dcp.CheckpointException as error:
            raise CheckpointError(f"{folder}: {_reasons(error)}") from error
        set_optimizer_state_dict(model, optimizer, state["optimizer"], options=StateDictOptions())
    common: dict[str, Any] = torch.load(folder / META_FILE, map_location="cpu", weights_only=True)
    return common


class _Reader(dcp.FileSystemReader):
    """Reads the index without being able to run code from it: only the classes that an index is made of are known."""

    def read_metadata(self, *_args: Any, **_kwargs: Any) -> Metadata:
        with Path(self.path, INDEX_FILE).open("rb") as file:
            metadata = _IndexUnpickler(file).load()
        if not isinstance(metadata, Metadata):
            raise CheckpointError(f"{self.path}/{INDEX_FILE}: not the index of a sharded state")
        metadata.storage_meta = metadata.storage_meta or StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata


class _IndexUnpickler(pickle.Unpickler):
    _MODULES = ("torch.distributed.checkpoint.metadata", "torch.distributed.checkpoint.filesystem")
    _OTHERS = (
        ("torch", "Size"),
        ("torch", "device"),
        ("torch.serialization", "_get_layout"),
        ("collections", "OrderedDict"),
        ("pathlib", "PosixPath"),
        ("pathlib", "WindowsPath"),
    )

    def find_class(self, module: str, name: str) -> Any:
        is_type = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if module in self._MODULES and "." not in name:
            found = super().find_class(module, name)
            if isinstance(found, type) and found.__module__ == module:
                return found
        elif is_type or (module, name) in self._OTHERS:
            return super().find_class(module, name)
        raise CheckpointError(f"{INDEX_FILE} names {module}.{name}, which is no part of an index: refusing to read it")


class _Planner(DefaultLoadPlanner):
    """Reads what is not a tensor (numbers, names) with `weights_only`, which the default planner does not."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        content = torch.load(value, weights_only=True)
        if self.flatten_state_dict:
            set_element(self.original_state_dict, self.mappings[read_item.dest_index.fqn], content)
        else:
            self.state_dict[read_item.dest_index.fqn] = content
