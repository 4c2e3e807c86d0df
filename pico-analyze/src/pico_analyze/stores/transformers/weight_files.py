"""Which files of a checkpoint hold the weights, and whether all of them are there: as transformers chooses them."""

from __future__ import annotations

from collections.abc import Iterable

from pico_analyze.errors import DataError
from pico_analyze.stores.transformers.files import ModelFiles
from pico_schema import SchemaError, layout

INDEX = "model.safetensors.index.json"
PICKLED = (".bin", ".pt", ".pth", ".ckpt")
_MOST_SHOWN = 3


def is_of_a_model(names: Iterable[str]) -> bool:
    """Whether files are some of a model's, be it one that is not whole."""
    return any(name == layout.MODEL_CONFIG or name.endswith((".safetensors", INDEX, *PICKLED)) for name in names)


def weight_files(files: ModelFiles) -> list[str]:
    """Names of the files of weights, as transformers would choose them: one, or those of an index, or all there are.

    Raises:
        DataError: the index is damaged, or names files that are not there.
    """
    if layout.WEIGHTS in files.sizes:
        return [layout.WEIGHTS]
    if INDEX in files.sizes:
        return sorted(set(shards(files).values()))
    return sorted(name for name in files.sizes if name.endswith(".safetensors"))


def shards(files: ModelFiles) -> dict[str, str]:
    """Tensor → file, by the index.

    Raises:
        DataError: it is damaged, or names files that are not there.
    """
    weight_map = files.json(INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
        raise DataError(f"{files.at(INDEX)}: it has no map from tensors to files: the index is damaged")
    missing = sorted({file for file in weight_map.values() if file not in files.sizes})
    if missing:
        for name in missing:
            try:
                layout.safe_relative_path(name)
            except SchemaError as error:
                raise DataError(f"{files.at(INDEX)}: {error}") from None
        shown = ", ".join(name[:100] for name in missing[:_MOST_SHOWN])
        more = f" and {len(missing) - _MOST_SHOWN} more" if len(missing) > _MOST_SHOWN else ""
        raise DataError(f"{files.where}: incomplete: {INDEX} names {shown}{more}, and there is no such file")
    return weight_map


def fault(files: ModelFiles) -> str | None:
    """Why a directory is no model that can be read, as far as names, sizes and headers tell; None for one that is."""
    if layout.MODEL_CONFIG not in files.sizes:
        return f"incomplete: it has no {layout.MODEL_CONFIG}"
    try:
        names = weight_files(files)
    except DataError as error:
        return str(error).removeprefix(f"{files.where}: ")
    if names:
        return None
    pickled = next((name for name in files.sizes if name.endswith(PICKLED)), None)
    if pickled is not None:
        return f"its weights are pickled ({pickled}), and unpickling can run code: convert them to safetensors"
    return "incomplete: it has no weights (*.safetensors)"


def shape_of(files: ModelFiles) -> object | None:
    """What is equal where two checkpoints have the same configuration and tensors of the same names and shapes, as far
    as digests and sizes tell; None where only headers could."""
    if not files.sealed:
        return None
    weights = weight_files(files)
    index = files.identity(INDEX) if INDEX in files.sizes and layout.WEIGHTS not in files.sizes else None
    return files.identity(layout.MODEL_CONFIG), index, tuple((name, files.sizes[name]) for name in weights)
