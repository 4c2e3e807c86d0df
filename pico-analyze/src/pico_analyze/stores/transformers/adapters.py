"""Adapters of PEFT and distributed checkpoints of torch, as the models that they come to.

An adapter holds differences to the weights of another model, its *base*: it is read as the two merged, as peft merges
them. The base is the one that was named (--base-model), or what `adapter_config.json` names: a directory, or a
repository that huggingface_hub has downloaded. Nothing is downloaded unless the base is named by an address.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pico_analyze.errors import DataError
from pico_analyze.stores.base import ReadOptions
from pico_analyze.stores.run_names import open_named
from pico_analyze.stores.transformers.by_library import made, placed, temporary
from pico_analyze.stores.transformers.files import HoldsModels, LocalFiles, ModelFiles
from pico_analyze.stores.transformers.other_formats import is_distributed
from pico_analyze.stores.transformers.pickled_files import ALLOW
from pico_analyze.stores.transformers.remade import Remade
from pico_analyze.stores.transformers.weight_files import INDEX, fault, has_usual_names, weight_files
from pico_schema import layout

if TYPE_CHECKING:
    from pico_analyze.stores.pickled.pickles import Pickles

CONFIG, WEIGHTS, PICKLED = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
INSTALL = "pip install 'pico-analyze[peft]'"
_GIVE = "give --base-model PATH (or hf://org/name, which downloads it)"


def as_model(files: LocalFiles, options: ReadOptions, pickles: Pickles | None) -> ModelFiles:
    """The files of a checkpoint: of an adapter, and of a distributed one where pickles may be opened, the model's.

    Raises:
        DataError: an adapter without its base, or a base that is none.
    """
    if has_usual_names(files):
        return files
    if CONFIG in files.sizes:
        return _merged(files, options)
    if pickles is not None and is_distributed(files.sizes):
        return _whole(files, pickles)
    return files


def _whole(files: LocalFiles, pickles: Pickles) -> Remade:
    names = [name for name in files.sizes if name == ".metadata" or name.endswith(".distcp")]

    def make() -> Path:
        opened, out = pickles.open_directory(files.path, [files.content(name) for name in names]), temporary()
        assert opened.path is not None
        (out / layout.WEIGHTS).symlink_to(opened.path)
        return out

    return Remade(files, names, make)


def _merged(files: LocalFiles, options: ReadOptions) -> Remade:
    weights = WEIGHTS if WEIGHTS in files.sizes else PICKLED
    if weights not in files.sizes:
        raise DataError(f"{files.where}: incomplete: it has {CONFIG}, and no {WEIGHTS}")
    if weights == PICKLED and files.pickles_closed is not None:
        raise DataError(f"{files.at(PICKLED)}: it is a pickle, and unpickling can run code: {ALLOW}")
    base = _base(files, options)
    own = weight_files(base)
    plain = all(name.endswith(".safetensors") for name in own) and layout.MODEL_CONFIG in base.sizes
    if fault(base) is not None or not own or not plain:
        why = fault(base) or "its weights are no safetensors"
        raise DataError(f"{base.where}: it cannot be the base of {files.where}: {why}")
    index = [INDEX] if INDEX in base.sizes and own != [layout.WEIGHTS] else []
    of_base = [layout.MODEL_CONFIG, *index, *own]
    named = [CONFIG, weights]

    def make() -> Path:
        request = {
            "base": str(placed(base, of_base)),
            "adapter": str(placed(files, named)),
            "allow_pickle": weights == PICKLED,
        }
        size = sum(base.sizes[name] for name in of_base) + files.sizes[weights]
        needs = dict.fromkeys(("torch", "transformers", "peft"), INSTALL)
        return made(request, where=files.where, size=size, needs=needs)

    return Remade(files, named, make, base=base, base_of=of_base)


def _base(files: LocalFiles, options: ReadOptions) -> ModelFiles:
    """The files of an adapter's base."""
    if options.base_model is not None:
        store = open_named(options.base_model, replace(options, base_model=None, step_pattern=None))
        steps = store.steps()
        if not isinstance(store, HoldsModels) or not steps:
            raise DataError(f"{options.base_model}: it is no model that an adapter could be merged with")
        if len(steps) > 1:
            raise DataError(
                f"{options.base_model}: it holds {len(steps)} models: name the one that is the base, as "
                f"{options.base_model}@{steps[-1].step}"
            )
        return cast("HoldsModels", store).model_files(steps[0].step)
    name = files.json(CONFIG).get("base_model_name_or_path")
    if not isinstance(name, str) or not name or not name.isprintable():
        raise DataError(f"{files.at(CONFIG)}: it names no base model: {_GIVE}")
    revision = files.json(CONFIG).get("revision")
    found = _directory(name, files.path) or _downloaded(name, revision if isinstance(revision, str) else None)
    if found is None:
        raise DataError(
            f"{files.where}: it is an adapter of PEFT, and its base {name[:200]!r} is not on this machine: {_GIVE}"
        )
    return LocalFiles(found)


def _directory(name: str, beside: Path) -> Path | None:
    """The directory that a name means: as it is, or from the adapter's own."""
    for path in (Path(name), beside / name):
        if (path / layout.MODEL_CONFIG).is_file():
            return path
    return None


def _downloaded(name: str, revision: str | None) -> Path | None:
    """What huggingface_hub has of a repository."""
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        return None
    from huggingface_hub import try_to_load_from_cache

    cache = os.environ.get("HF_HUB_CACHE")
    try:
        found = try_to_load_from_cache(name, layout.MODEL_CONFIG, cache_dir=cache, revision=revision)
    except ValueError:  # no name of a repository
        return None
    return Path(found).parent if isinstance(found, str) else None
