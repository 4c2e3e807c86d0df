"""Which files of a checkpoint hold the weights, and whether all of them are there: as transformers chooses them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pico_analyze.errors import DataError
from pico_analyze.stores.json_file import json_object
from pico_analyze.stores.lfs import MAX_POINTER, WHAT_A_POINTER_IS
from pico_analyze.stores.transformers.files import ModelFiles
from pico_analyze.stores.transformers.other_formats import is_of_deepspeed, other_format
from pico_analyze.stores.transformers.pickled_files import (
    PICKLED_INDEX,
    PICKLED_WEIGHTS,
    is_pickle,
    pickled_weights,
)
from pico_schema import SchemaError, layout

INDEX = "model.safetensors.index.json"
TOLD = "told"
"""Where the metadata of a pickle's tensors has what it says beside them; see `stores.pickled.unpickle`."""
_MOST_SHOWN = 3
_GGUF = ".gguf"
_PART = re.compile(r"(.+)-([0-9]{5})-of-([0-9]{5})\.gguf")
"""One of several files of GGUF that are one model."""


def is_of_a_model(names: Iterable[str]) -> bool:
    """Whether files are some of a model's, be it one that is not whole."""
    return any(
        name == layout.MODEL_CONFIG or name.endswith((".safetensors", INDEX, _GGUF)) or is_pickle(name)
        for name in names
    )


def is_gguf(name: str) -> bool:
    """Whether a file is one of GGUF, by its name."""
    return name.endswith(_GGUF)


def is_other(path: Path) -> bool:
    """Whether a directory is a checkpoint of another format than that of transformers."""
    try:
        names = {entry.name for entry in path.iterdir()}
    except OSError:
        return False
    return any(map(is_gguf, names)) or other_format(names, str(path)) is not None


def is_checkpoint(path: Path) -> bool:
    """Whether a directory holds something of a model: a part of a checkpoint of DeepSpeed is none by itself."""
    try:
        names = {entry.name for entry in path.iterdir()}
    except OSError:
        return False
    return not is_of_deepspeed(names) and (is_of_a_model(names) or other_format(names, str(path)) is not None)


def weight_files(files: ModelFiles) -> list[str]:
    """Names of the files of weights, as transformers would choose them: one, or those of an index, or all there are.

    Raises:
        DataError: the index is damaged, or names files that are not there; or it is not clear which file is meant.
    """
    if layout.WEIGHTS in files.sizes:
        return [layout.WEIGHTS]
    if INDEX in files.sizes:
        return sorted(set(shards(files, INDEX).values()))
    plain = sorted(name for name in files.sizes if name.endswith(".safetensors"))
    gguf = [name for name in files.sizes if is_gguf(name)]
    if gguf and not has_usual_names(files):
        return _one_of_gguf(gguf, files.where)
    if plain or files.pickles_closed is not None:
        return plain
    if index_of(files) is not None:
        return sorted(set(shards(files, PICKLED_INDEX).values()))
    found = pickled_weights(files.sizes)
    if len(found) > 1:
        shown = ", ".join(found[:_MOST_SHOWN]) + (", …" if len(found) > _MOST_SHOWN else "")
        raise DataError(f"{files.where}: it has {len(found)} pickled files ({shown}): name the one that you mean")
    return found


def holds_gguf(files: ModelFiles) -> bool:
    """Whether its weights are those of GGUF."""
    return any(map(is_gguf, files.sizes)) and any(map(is_gguf, weight_files(files)))


def _one_of_gguf(names: Iterable[str], where: str) -> list[str]:
    """The file of GGUF, or the parts of the one that there is."""
    models: dict[str, list[str]] = {}
    for name in sorted(names):
        part = _PART.fullmatch(name)
        models.setdefault(name if part is None else f"{part[1]} of {part[3]}", []).append(name)
    if len(models) > 1:
        first = [parts[0] for parts in models.values()]
        shown = ", ".join(first[:_MOST_SHOWN]) + (", …" if len(first) > _MOST_SHOWN else "")
        raise DataError(f"{where}: it has {len(models)} models of GGUF ({shown}): name the file that you mean")
    (found,) = models.values()
    part = _PART.fullmatch(found[0])
    if part is not None and len(found) != int(part[3]):
        raise DataError(
            f"{where}: incomplete: {len(found)} of the {int(part[3])} files of {part[1]} are there: put all of them "
            "into one folder, and name that"
        )
    return found


def index_of(files: ModelFiles) -> str | None:
    """The index that says which tensor is in which file, if it is the one that counts."""
    if layout.WEIGHTS in files.sizes:  # in this order transformers looks for them
        return None
    if INDEX in files.sizes:
        return INDEX
    whole = PICKLED_WEIGHTS in files.sizes or any(name.endswith(".safetensors") for name in files.sizes)
    return PICKLED_INDEX if PICKLED_INDEX in files.sizes and not whole else None


def shards(files: ModelFiles, index: str) -> dict[str, str]:
    """Tensor → file, by the index.

    Raises:
        DataError: it is damaged, or names files that are not there.
    """
    weight_map = files.json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
        raise DataError(f"{files.at(index)}: it has no map from tensors to files: the index is damaged")
    missing = sorted({file for file in weight_map.values() if file not in files.sizes})
    if missing:
        for name in missing:
            try:
                layout.safe_relative_path(name)
            except SchemaError as error:
                raise DataError(f"{files.at(index)}: {error}") from None
        shown = ", ".join(name[:100] for name in missing[:_MOST_SHOWN])
        more = f" and {len(missing) - _MOST_SHOWN} more" if len(missing) > _MOST_SHOWN else ""
        raise DataError(f"{files.where}: incomplete: {index} names {shown}{more}, and there is no such file")
    return weight_map


def fault(files: ModelFiles) -> str | None:
    """Why a directory is no model that can be read, as far as names, sizes and headers tell; None for one that is."""
    try:
        return _what_lacks(files)
    except DataError as error:
        return str(error).removeprefix(f"{files.where}: ")


def _what_lacks(files: ModelFiles) -> str | None:
    names = weight_files(files)
    if not has_usual_names(files) and (other := other_format(files.sizes, files.where)) is not None:
        return other
    pickled = [name for name in names if is_pickle(name)] if names else pickled_weights(files.sizes)
    if pickled:
        if pointer := next((name for name in pickled if _is_pointer(files, name)), None):
            return f"{pointer}: {WHAT_A_POINTER_IS}"
        if not names:
            return f"its weights are pickled ({pickled[0]}), and unpickling can run code: {files.pickles_closed}"
        return None
    if layout.MODEL_CONFIG not in files.sizes and not files.remade and not any(map(is_gguf, names)):
        return f"incomplete: it has no {layout.MODEL_CONFIG}"
    return None if names else "incomplete: it has no weights (*.safetensors)"


def has_usual_names(files: ModelFiles) -> bool:
    """Whether weights are there under one of the names that transformers gives them, or as other safetensors."""
    plain = (name for name in files.sizes if name.endswith(".safetensors"))
    usual = (PICKLED_WEIGHTS, PICKLED_INDEX, INDEX)
    return any(not name.startswith("adapter_") for name in plain) or any(name in files.sizes for name in usual)


def _is_pointer(files: ModelFiles, name: str) -> bool:
    return files.sizes.get(name, MAX_POINTER) < MAX_POINTER and files.is_pointer(name)


def told(files: ModelFiles) -> Mapping[str, Any]:
    """What pickled weights say beside the tensors, and those of GGUF before them: the step, the model's numbers."""
    for name in weight_files(files):
        file = files.tensors(name)
        return json_object(file.metadata.get(TOLD, "{}").encode(), where=file.where)
    return {}


def configuration(files: ModelFiles) -> dict[str, Any]:
    """What `config.json` says; for pickled weights without one, what they say themselves, as nanoGPT's do. Of GGUF what
    it says itself, for it has names of its own.

    Raises:
        DataError: the file is damaged.
    """
    if holds_gguf(files):
        return dict(told(files)["config"])
    if layout.MODEL_CONFIG in files.sizes:
        return files.json(layout.MODEL_CONFIG)
    numbers = told(files).get("model_args")
    return {"model_type": "nanogpt", **numbers} if isinstance(numbers, dict) and "block_size" in numbers else {}


def shape_of(files: ModelFiles) -> object | None:
    """What is equal where two checkpoints have the same configuration and tensors of the same names and shapes, as far
    as digests and sizes tell; None where only headers could. Of pickled weights, and those that are made, it is the
    configuration and the names of files: the others of a series are not opened to be listed."""
    weights = weight_files(files)
    if layout.MODEL_CONFIG in files.sizes and (files.remade or any(is_pickle(name) for name in weights)):
        return repr(files.json(layout.MODEL_CONFIG)), tuple(weights)
    if not files.sealed or layout.MODEL_CONFIG not in files.sizes or holds_gguf(files):
        return None
    index = index_of(files)
    named = tuple((name, files.sizes[name]) for name in weights)
    return files.identity(layout.MODEL_CONFIG), index and files.identity(index), named
