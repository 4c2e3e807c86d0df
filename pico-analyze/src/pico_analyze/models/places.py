"""Which module of a loaded model gives a site's activation, and which of its parameters is the site's weight.

Names are looked up in the table of architectures once more, among those of the loaded model: transformers may have
converted or prefixed those of the files. Where one module computes several sites (fused projections), the features of
a site are found by cutting the numbers of the module's outputs as its weight is cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pico_analyze.errors import DataError, UsageError
from pico_analyze.stores.base import ReadOptions
from pico_analyze.stores.transformers.architecture import Architecture, Source
from pico_analyze.stores.transformers.cuts import WHOLE
from pico_analyze.stores.transformers.parts import decoder_config
from pico_schema import ForeignSpec, Site, SiteError
from pico_schema.sites import INPUT_OF, KINDS, check_kind

if TYPE_CHECKING:
    from pico_analyze.stores.transformers.model import Model

DEFAULT_SITES = ("attn.v", "attn.o", "mlp.down")
_EXPERTS = re.compile(r"(?:layers\.[0-9]+\.)?mlp\.experts\.(?:[0-9]+\.)?(?:gate|up|down)")


@dataclass(frozen=True)
class Place:
    """Where a loaded model has one site."""

    site: str
    module: str
    """Dotted name of the module whose output is the activation, or what it takes in."""
    columns: np.ndarray | None
    """Features of it which are the site's, in order; None for all of them."""
    source: Source | None
    """Name of the parameter, and how the weight is taken out of it; None where there is no weight (`resid`)."""
    is_input: bool = False
    """Whether the activation is what the module takes in (`attn.z`, `mlp.act`), and not what it gives."""


@dataclass(frozen=True)
class State:
    """What a loaded model has, by name."""

    shapes: Mapping[str, tuple[int, ...]]
    """Of everything in its state."""
    transposed: Set[str]
    """Modules that hold their weight as (in, out)."""
    ends: Mapping[str, str]
    """The modules that it says are its `embed` and its `head`, whatever they are called."""


def chosen_sites(model: Model, wanted: Sequence[str]) -> tuple[str, ...]:
    """The sites of a model that are meant by kinds and names, in the order of computation.

    Args:
        model: The model.
        wanted: Kinds (``attn.v``) and names (``layers.3.attn.v``); none: those of `DEFAULT_SITES` that it has.

    Raises:
        UsageError: one that is none, or that the model does not have.
        DataError: nothing is known of its sites.
    """
    decoder = model.decoder
    if decoder.unknown is not None:
        raise DataError(decoder.unknown)
    held = {name: Site.parse(name) for name in decoder.found.sites if _is_site(name)}
    held |= {str(site): site for site in (Site(layer, "resid") for layer in range(model.spec.n_layers))}
    for kind, of in INPUT_OF.items():
        inputs = (Site(site.layer, kind) for site in list(held.values()) if site.kind == of)
        held |= {str(site): site for site in inputs}
    kinds = {site.kind for site in held.values()}
    chosen: set[str] = set()
    for one in wanted or [kind for kind in DEFAULT_SITES if kind in kinds]:
        if _EXPERTS.fullmatch(one):
            raise UsageError(
                f"{one!r} is not captured: an expert computes only the tokens that are routed to it, so that each step "
                "would give other rows: capture resid, which holds what the experts add, or measure their weights"
            )
        try:
            found = {one} & held.keys() if one.startswith("layers.") and Site.parse(one) else set[str]()
            found |= {name for name, site in held.items() if site.kind == check_kind(site.kind) == one}
            if not found and not one.startswith("layers."):
                check_kind(one)
        except SiteError as error:
            raise UsageError(str(error)) from None
        if not found:
            there = ", ".join(kind for kind in KINDS if kind in kinds)
            raise UsageError(
                f"{model.files.where} has no site {one!r}: it has {there}, in {model.spec.n_layers} layers"
            )
        chosen |= found
    order = {"embed": -1, "norm.final": 10_000, "head": 10_001}
    return tuple(
        sorted(
            chosen,
            key=lambda name: (
                held[name].layer if held[name].layer is not None else order[name],
                KINDS.index(held[name].kind),
            ),
        )
    )


def _is_site(name: str) -> bool:
    try:
        Site.parse(name)
    except SiteError:
        return False
    return True


def places(model: Model, sites: Iterable[str], state: State, options: ReadOptions) -> list[Place]:
    """Where a loaded model has sites.

    Args:
        model: The model as its files say it is.
        sites: Names of sites that it has.
        state: What the loaded model has.
        options: Which tower of the model was chosen.

    Raises:
        DataError: the loaded model has no tensor of a site's name, or one of another shape.
    """
    architecture, spec = model.decoder.architecture, model.spec
    assert architecture is not None and isinstance(spec, ForeignSpec)
    _, parts = decoder_config(model.config)
    begin = options.prefix if options.prefix and any(name.startswith(options.prefix) for name in state.shapes) else None
    where = f"{model.files.where} as loaded"
    found = dict(architecture.found(state.shapes, spec, prefix=begin, parts=parts, where=where).sites)
    found |= {kind: Source(f"{module}.weight", WHOLE) for kind, module in state.ends.items()}
    return [_place(site, model, architecture, found, state) for site in sites]


def _place(
    name: str,
    model: Model,
    architecture: Architecture,
    found: Mapping[str, Source],
    state: State,
) -> Place:
    site, spec = Site.parse(name), model.spec
    if site.kind == "resid":
        inside = (source.tensor for at, source in found.items() if at.startswith(f"layers.{site.layer}."))
        block = next(filter(None, map(architecture.block_of, inside)), None)
        if block is None:
            raise _not_there(name, model)
        return Place(name, block, None, None)
    if site.is_input:
        return _input(site, model, found, state)
    source = found.get(name)
    if source is None or source.tensor not in state.shapes:
        raise _not_there(name, model)
    module = source.tensor.removesuffix(".weight")
    shape, transposed = state.shapes[source.tensor], state.transposed
    if len(shape) == 1:
        return Place(name, module, None, source)
    n_out = shape[1] if module in transposed else shape[0]
    numbers = np.arange(n_out).reshape((1, -1) if module in transposed else (-1, 1))
    columns = source.cut(numbers, spec).reshape(-1)
    if len(columns) != spec.weight_shape(site.kind)[0]:
        raise DataError(
            f"{model.files.where}: {source.tensor} of the loaded model gives {len(columns)} features at site {name!r}, "
            f"and its configuration says {spec.weight_shape(site.kind)[0]}"
        )
    if site.kind == "embed":
        return Place(name, module, None, source)  # its rows are tokens; its features are all there are
    return Place(name, module, None if np.array_equal(columns, np.arange(n_out)) else columns, source)


def _input(site: Site, model: Model, found: Mapping[str, Source], state: State) -> Place:
    """Where what a projection takes in is found: before the module that has its weight."""
    source = found.get(str(Site(site.layer, INPUT_OF[site.kind])))
    if source is None or source.tensor not in state.shapes:
        raise _not_there(str(site), model)
    module, shape = source.tensor.removesuffix(".weight"), state.shapes[source.tensor]
    width = shape[0] if module in state.transposed else shape[-1]
    if len(shape) != 2 or width != model.spec.activation_width(site.kind):
        raise DataError(
            f"{model.files.where}: {source.tensor} of the loaded model takes in {width} features, which are to be site "
            f"{str(site)!r}, and its configuration says {model.spec.activation_width(site.kind)}"
        )
    return Place(str(site), module, None, None, is_input=True)


def _not_there(site: str, model: Model) -> DataError:
    return DataError(
        f"{model.files.where}: transformers loads this model under names of which none is known for site {site!r}: "
        "measure its weights, which are read from the files"
    )
