"""The subprocess that opens pickles: tensors in, safetensors out, nothing else.

``python -m pico_analyze.stores.pickled.unpickle MEMORY FILE_SIZE`` limits its own memory, output and core dumps, then
answers requests: one JSON line in (`{"path": …, "out": …, "model": …}`), one out (`{"error": null}`). A path that is a
directory is a distributed checkpoint, see `distributed`. `torch.load` runs with `weights_only=True`, which builds
tensors and plain containers alone. A capture is a dict from names to tensors of floating-point numbers. A model may lie
within others (`CONTAINERS`), have buffers of other numbers, and stand beside what its maker says of it: a few numbers
of that are kept (`TOLD`). Whatever else is there is refused or left out. The parent kills a request that takes too long
and checks what was written with its own reader.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CONTAINERS = ("state_dict", "model_state_dict", "model", "module")
"""What dicts call the weights of a model: Lightning, scripts, nanoGPT and litgpt, DeepSpeed."""
TOLD = "told"
"""Where the safetensors' metadata has what a pickle says beside its tensors, as JSON."""
_STEPS = ("iter_num", "global_step", "global_steps", "step")
_MOST_TOLD = 64


def limit(memory: int, file_size: int) -> None:
    """Bound address space, size of written files and core dumps of this process, in bytes."""
    for what, amount in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, file_size),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        allowed = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
        resource.setrlimit(what, (allowed, allowed))


def convert(path: Path, out: Path, *, model: bool = False) -> None:
    """Write the tensors of a pickle as safetensors.

    Raises:
        ValueError: it holds something other than named real tensors.
    """
    import torch
    from safetensors.torch import save_file

    loaded: Any = _loaded(path)
    told = _told(loaded) if model else {}
    tensors = {}
    for name, tensor in _named(loaded, model=model):
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise ValueError(f"entry {str(name)[:100]!r} is a {type(tensor).__name__}, not a tensor")
        usable = model or (tensor.dtype.is_floating_point and tensor.dtype.itemsize > 1)
        if tensor.layout is not torch.strided or tensor.is_quantized or not usable:
            raise ValueError(f"tensor {name[:100]!r} is of type {tensor.dtype}, layout {tensor.layout}")
        tensors[name] = tensor.detach().contiguous().clone()
    save_file(tensors, out, {TOLD: json.dumps(told)} if told else None)


def _loaded(path: Path) -> Any:
    import torch

    if path.is_dir():
        from pico_analyze.stores.pickled.distributed import load_distributed

        return load_distributed(path, CONTAINERS, _STEPS)
    return torch.load(path, map_location="cpu", weights_only=True)


def _named(loaded: Any, *, model: bool) -> Iterator[tuple[Any, Any]]:
    """The entries of the dict of tensors that a pickle is, or that it holds."""
    if not isinstance(loaded, dict):
        raise ValueError(f"it holds a {type(loaded).__name__}, not named tensors")
    if model:
        loaded = next((loaded[name] for name in CONTAINERS if isinstance(loaded.get(name), dict)), loaded)
        if not loaded:
            raise ValueError("it holds no tensors")
    yield from loaded.items()


def _told(loaded: Any) -> dict[str, Any]:
    """What a maker says beside the tensors: the step, and nanoGPT's numbers of the model."""
    if not isinstance(loaded, dict):
        return {}
    told: dict[str, Any] = {}
    numbers = loaded.get("model_args")
    if isinstance(numbers, dict):
        plain = {key: value for key, value in numbers.items() if isinstance(key, str) and _is_number(value)}
        told["model_args"] = {key[:100]: plain[key] for key in list(plain)[:_MOST_TOLD]}
    step = next((loaded[name] for name in _STEPS if type(loaded.get(name)) is int), None)
    return told if step is None or not _is_number(step) else told | {"step": step}


def _is_number(value: Any) -> bool:
    return isinstance(value, bool) or (type(value) is int and abs(value) < 2**53)


def _sentence(error: BaseException) -> str:
    if isinstance(error, MemoryError) or "allocate" in str(error):
        return "it needs more memory than the limit allows"
    if type(error).__name__ == "UnpicklingError":
        return "it holds more than tensors, and opening it could run code"
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _address_space() -> int:
    """Bytes of address space in use, as far as the system tells."""
    status = Path("/proc/self/statm")
    return int(status.read_text().split()[0]) * resource.getpagesize() if status.is_file() else 0


def main() -> None:
    """Answer requests until stdin ends."""
    import torch  # before the limits: mapping the library is not the pickle's doing

    torch.set_num_threads(1)
    limit(_address_space() + int(sys.argv[1]), int(sys.argv[2]))
    for line in sys.stdin:
        request = json.loads(line)
        error = None
        try:
            convert(Path(request["path"]), Path(request["out"]), model=request["model"])
        except Exception as problem:
            error = _sentence(problem)
        sys.stdout.write(json.dumps({"error": error}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
