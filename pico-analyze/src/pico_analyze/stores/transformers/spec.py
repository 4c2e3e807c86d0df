"""What models of transformers are recognised by; the architectures are imported when one is opened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pico_analyze.stores.base import ReadOptions, Store
from pico_analyze.stores.hub_cache import cached_repository
from pico_analyze.stores.spec import StoreSpec
from pico_schema import layout

if TYPE_CHECKING:
    from pico_analyze.stores.transformers.files import LocalFiles, ModelFiles


def _recognises(location: str) -> bool:
    """Whether a directory has a `config.json` beside weights, or directories that do; or is of a format that is named,
    or a pickle: what can be done with those is said when one is opened."""
    from pico_analyze.stores.transformers.pickled_files import is_pickle
    from pico_analyze.stores.transformers.series import is_series
    from pico_analyze.stores.transformers.weight_files import is_gguf, is_other

    path = Path(location)
    if path.is_file():
        return is_pickle(path.name) or is_gguf(path.name)
    return path.is_dir() and (
        _is_model(path) or is_other(path) or is_series(path) or cached_repository(path) is not None
    )


def _is_model(path: Path) -> bool:
    """Whether there are weights beside a `config.json`, or one of the pickles that hold a model by themselves."""
    from pico_analyze.stores.transformers.pickled_files import is_pickle, pickled_weights

    names = {entry.name for entry in path.iterdir()}
    if layout.MODEL_CONFIG in names:
        return any(name.endswith((".safetensors", ".safetensors.index.json")) or is_pickle(name) for name in names)
    return any(not name.endswith(".bin") or name.startswith("pytorch_model") for name in pickled_weights(names))


def _open(location: str, options: ReadOptions) -> Store:
    from pico_analyze.stores.pickled.pickles import Pickles
    from pico_analyze.stores.transformers.adapters import as_model
    from pico_analyze.stores.transformers.series import find_series
    from pico_analyze.stores.transformers.step_names import StepPattern
    from pico_analyze.stores.transformers.store import TransformersStore

    pickles = Pickles(model=True) if options.allow_pickle else None

    def model(files: LocalFiles) -> ModelFiles:
        return as_model(files, options, pickles)

    series = find_series(Path(location), StepPattern(options.step_pattern), pickles, model)
    return TransformersStore(location, series, options)


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
