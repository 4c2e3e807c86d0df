"""Folders of checkpoints at places that fsspec knows; what reads them is imported when one is opened."""

from __future__ import annotations

from pico_analyze.stores.base import ReadOptions, Store
from pico_analyze.stores.spec import StoreSpec

NAME = "fsspec"


def _recognises(location: str) -> bool:
    """Whether this is an address of another kind than the Hub's."""
    return "://" in location and not location.startswith("hf://")


def _open(location: str, options: ReadOptions) -> Store:
    from pico_analyze.stores.pickled.pickles import Pickles
    from pico_analyze.stores.transformers.place_files import PlaceFiles, look_at
    from pico_analyze.stores.transformers.series import assembled
    from pico_analyze.stores.transformers.step_names import StepPattern
    from pico_analyze.stores.transformers.store import TransformersStore
    from pico_analyze.stores.transformers.weight_files import is_of_a_model

    place, pickles = look_at(location), Pickles(model=True) if options.allow_pickle else None
    names = [name for name, files in sorted(place.folders.items()) if name and is_of_a_model(files)]
    own = PlaceFiles(place, "", pickles) if is_of_a_model(place.folders.get("", {})) else None
    run = place.url.rpartition("/")[2]
    pattern = StepPattern(options.step_pattern)
    series = assembled(run, location, names, lambda name: PlaceFiles(place, name, pickles), own, pattern)
    return TransformersStore(location, series, options, kind=NAME)


FSSPEC = StoreSpec(
    name=NAME,
    title="checkpoints at a place of fsspec",
    sign="s3://, gs:// and other places of fsspec",
    recognises=_recognises,
    open=_open,
    remote=True,
    thread_safe=True,
    order=80,
    install="pip install the package that fsspec names for it, such as s3fs",
)
