"""Distributed checkpoints of torch (DCP) within the subprocess that opens pickles: a model's tensors, and the step.

`.metadata` is a pickle, and what is no tensor is one too: torch opens both with everything that a pickle can do. Here
`.metadata` may name nothing but what torch writes into one (`_ALLOWED`), values are opened with `weights_only`, and
files lie in the directory itself. What belongs to an optimizer is not read.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, Metadata, TensorStorageMetadata

METADATA = ".metadata"
MAX_METADATA = 256 << 20
_OF = "torch.distributed.checkpoint."
_ALLOWED = {
    f"{_OF}metadata": {
        *("Metadata", "TensorStorageMetadata", "BytesStorageMetadata", "TensorProperties", "ChunkStorageMetadata"),
        *("MetadataIndex", "StorageMeta", "_MEM_FORMAT_ENCODING"),
    },
    f"{_OF}filesystem": {"_StorageInfo"},
    "torch": {"Size", *(name for name in dir(torch) if isinstance(getattr(torch, name), torch.dtype))},
    "torch.serialization": {"_get_layout"},
    "collections": {"OrderedDict"},
    "pathlib": {"PosixPath", "PurePosixPath", "Path"},
}
"""What a `.metadata` of torch names."""
_MOST_LARGER = 8
"""Tensors may hold so many bytes for each byte of the files."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name not in _ALLOWED.get(module, ()):
            raise ValueError(f"its {METADATA} names {module[:60]}.{name[:60]}, which none of torch does: not opened")
        return super().find_class(module, name)


class _Reader(dcp.FileSystemReader):
    """Reads `.metadata` with `_Unpickler`."""

    def read_metadata(self, *_args: Any, **_named: Any) -> Metadata:
        file = Path(self.path, METADATA)
        if file.stat().st_size > MAX_METADATA:
            raise ValueError(f"its {METADATA} has more than the {MAX_METADATA >> 20} MiB that make sense")
        with file.open("rb") as stream:
            found = _Unpickler(stream).load()
        if not isinstance(found, Metadata) or not isinstance(found.storage_data, dict):
            raise ValueError(f"its {METADATA} is none")
        for info in found.storage_data.values():
            if "/" in info.relative_path or not Path(self.path, info.relative_path).is_file():
                raise ValueError(f"incomplete: {METADATA} names {info.relative_path[:100]}, and there is no such file")
        return found


class _Planner(DefaultLoadPlanner):
    """Opens values that are no tensors with `weights_only`, and keeps them."""

    def __init__(self) -> None:
        super().__init__(flatten_state_dict=False)
        self.told: dict[str, Any] = {}

    def load_bytes(self, read_item: Any, value: Any) -> None:
        self.told[read_item.dest_index.fqn] = torch.load(value, weights_only=True)


def load_distributed(path: Path, containers: tuple[str, ...], steps: tuple[str, ...]) -> dict[str, Any]:
    """``{"model": {name: tensor}, "step": …}`` of a checkpoint.

    Args:
        path: Its directory.
        containers: What the dict of the model's weights may be called.
        steps: What the step may be called.

    Raises:
        ValueError: it is none, is incomplete, or claims more than its files hold.
    """
    reader = _Reader(path)
    metadata = reader.read_metadata()
    names = _names(metadata, containers)
    said: Mapping[str, Any] = metadata.state_dict_metadata
    told = [name for name in steps if isinstance(said.get(name), BytesStorageMetadata)][:1]
    size, most = 0, _MOST_LARGER * sum(file.stat().st_size for file in path.iterdir())
    for key in names:
        properties, shape = said[key].properties, said[key].size
        size += shape.numel() * properties.dtype.itemsize
        if size > most:
            raise ValueError(f"its tensors claim {size:,} bytes and more, and its files hold no such number")
    state: dict[str, Any] = {key: torch.empty(said[key].size, dtype=said[key].properties.dtype) for key in names}
    for key, tensor in state.items():
        covered = sum(int(chunk.sizes.numel()) for chunk in said[key].chunks)
        if covered != tensor.numel():
            raise ValueError(f"tensor {key[:100]!r} is not all there: {covered} of {tensor.numel()} numbers")
    state |= dict.fromkeys(told)
    planner = _Planner()
    try:
        dcp.load(state, storage_reader=_Reader(path), planner=planner, no_dist=True)
    except CheckpointException as error:  # no Exception
        first = next(iter(error.failures.values()))[0]
        if isinstance(first, pickle.UnpicklingError):
            raise first from None
        raise ValueError(f"damaged: {(str(first).splitlines() or [type(first).__name__])[0][:150]}") from None
    return {"model": {name: state[key] for key, name in names.items()}} | planner.told


def _names(metadata: Metadata, containers: tuple[str, ...]) -> Mapping[str, str]:
    """The keys of the model's tensors → their names: those of its dict, or all that are of no optimizer."""
    paths = metadata.planner_data if isinstance(metadata.planner_data, dict) else {}
    held = {
        key: tuple(map(str, paths.get(key, (key,))))
        for key, value in metadata.state_dict_metadata.items()
        if isinstance(value, TensorStorageMetadata)
    }
    for container in containers:
        if inner := {key: ".".join(path[1:]) for key, path in held.items() if path[0] == container and path[1:]}:
            return inner
    return {key: ".".join(path) for key, path in held.items() if not path[0].startswith("optim")}
