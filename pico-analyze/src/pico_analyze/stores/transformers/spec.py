"""What models of transformers are recognised by; the architectures are imported when one is opened."""

from __future__ import annotations

from pathlib import Path

from pico_analyze.stores.base import ReadOptions, Store
from pico_analyze.stores.spec import StoreSpec
from pico_schema import layout


def _recognises(location: str) -> bool:
    """Whether a directory has a `config.json` beside weights, or directories that do."""
    from pico_analyze.stores.transformers.series import is_series

    path = Path(location)
    return path.is_dir() and (_is_model(path) or is_series(path) or _is_cache(path))


def _is_model(path: Path) -> bool:
    weights = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.safetensors.index.json")
    return (path / layout.MODEL_CONFIG).is_file() and any(next(path.glob(one), None) for one in weights)


def _is_cache(path: Path) -> bool:
    path = path.absolute()
    folder = path.parent if path.name == "snapshots" else path
    return folder.name.startswith("models--") and (folder / "snapshots").is_dir()


def _open(location: str, options: ReadOptions) -> Store:
    from pico_analyze.stores.transformers.series import find_series
    from pico_analyze.stores.transformers.step_names import StepPattern
    from pico_analyze.stores.transformers.store import TransformersStore

    return TransformersStore(location, find_series(Path(location), StepPattern(options.step_pattern)), options)


def _checkpoint(path: Path) -> tuple[Path, int] | None:
    """The folder and the step of a checkpoint named by itself: ``out/checkpoint-500`` is step 500 of ``out``."""
    from pico_analyze.stores.transformers.series import checkpoint_in

    return checkpoint_in(path)


TRANSFORMERS = StoreSpec(
    name="transformers",
    title="a transformers model",
    sign="config.json with *.safetensors (transformers)",
    recognises=_recognises,
    open=_open,
    checkpoint=_checkpoint,
    thread_safe=True,
    order=90,
)
