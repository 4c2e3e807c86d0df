"""What a model directory of transformers is recognised by; the architectures are imported when one is opened."""

from __future__ import annotations

from pathlib import Path

from pico_analyze.errors import DataError
from pico_analyze.stores.base import ReadOptions, Store
from pico_analyze.stores.spec import StoreSpec
from pico_schema import layout


def _recognises(location: str) -> bool:
    """Whether a directory has a `config.json` and weights as safetensors.

    Raises:
        DataError: it has weights, and only pickled ones.
    """
    path = Path(location)
    if not (path / layout.MODEL_CONFIG).is_file():
        return False
    if any(path.glob("*.safetensors")):
        return True
    pickled = next((file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in path.glob(pattern)), None)
    if pickled is not None:
        raise DataError(
            f"{path}: its weights are pickled ({pickled}), and unpickling can run code: convert them to safetensors"
        )
    return False


def _open(location: str, options: ReadOptions) -> Store:
    from pico_analyze.stores.transformers.store import TransformersStore

    return TransformersStore(Path(location), options)


TRANSFORMERS = StoreSpec(
    name="transformers",
    title="a transformers model",
    sign="config.json with *.safetensors (transformers)",
    recognises=_recognises,
    open=_open,
    thread_safe=True,
    order=90,
)
