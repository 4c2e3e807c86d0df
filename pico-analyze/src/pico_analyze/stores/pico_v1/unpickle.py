"""The subprocess that opens Pico 1.0's pickles: tensors in, safetensors out, nothing else.

``python -m pico_analyze.stores.pico_v1.unpickle MEMORY FILE_SIZE`` limits its own memory, output and core dumps, then
answers requests: one JSON line in (`{"path": …, "out": …, "seconds": …}`), one out (`{"error": null}`). `torch.load`
runs with `weights_only=True`, which builds tensors and plain containers alone; whatever is not a dict from names to
tensors is refused. The parent kills a request that takes too long and checks what was written with its own reader.

The only module that imports torch.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any


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


def convert(path: Path, out: Path) -> None:
    """Write the tensors of a pickle as safetensors.

    Raises:
        ValueError: it holds something other than named real tensors.
    """
    import torch
    from safetensors.torch import save_file

    loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(loaded, dict):
        raise ValueError(f"it holds a {type(loaded).__name__}, not named tensors")
    tensors = {}
    for name, tensor in loaded.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise ValueError(f"entry {str(name)[:100]!r} is a {type(tensor).__name__}, not a tensor")
        if tensor.layout is not torch.strided or not tensor.dtype.is_floating_point or tensor.dtype.itemsize == 1:
            raise ValueError(f"tensor {name[:100]!r} is of type {tensor.dtype}, layout {tensor.layout}")
        tensors[name] = tensor.detach().contiguous().clone()
    save_file(tensors, out)


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
            convert(Path(request["path"]), Path(request["out"]))
        except Exception as problem:
            error = _sentence(problem)
        sys.stdout.write(json.dumps({"error": error}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
