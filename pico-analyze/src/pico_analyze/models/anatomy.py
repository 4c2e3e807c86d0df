"""Where a loaded model has what probes look at: its blocks, their attention, values and outputs, its last norm and its
unembedding. What cannot be found has a reason, and the probes that need it say that reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pico_analyze.errors import DataError, PicoAnalyzeError
from pico_analyze.models.places import Place, places
from pico_schema import Site

if TYPE_CHECKING:
    from pico_analyze.models.places import State
    from pico_analyze.stores.base import ReadOptions
    from pico_analyze.stores.transformers.model import Model
    from pico_schema import ModelSpec


@dataclass(frozen=True)
class Anatomy:
    """Names of modules of a loaded model."""

    spec: ModelSpec
    blocks: tuple[str, ...]
    """The block of each layer; empty where they are not known."""
    no_blocks: str | None = None
    """Why they are not known."""
    values: tuple[Place, ...] = ()
    """Where each layer's values are (`attn.v`)."""
    outputs: tuple[Place, ...] = ()
    """Where each layer's output projection is (`attn.o`)."""
    no_values: str | None = None
    """Why values or output projections are not known."""
    norm: str | None = None
    """The final norm; None for a model without one."""
    attention: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """Modules of each layer that may give attention weights, from the outside in."""


def anatomy(model: Model, module: Any, state: State, options: ReadOptions) -> Anatomy:
    """What is where in a loaded model.

    Args:
        model: The model as its files say it is.
        module: The model as it is loaded.
        state: What it has, by name.
        options: Which tower of it was chosen.
    """
    spec = model.spec
    if model.decoder.unknown is not None or model.decoder.architecture is None:
        return Anatomy(spec, (), no_blocks=model.decoder.unknown or "its architecture is not known")
    try:
        blocks = tuple(place.module for place in places(model, _sites("resid", spec), state, options))
    except DataError as error:
        return Anatomy(spec, (), no_blocks=str(error))
    values: tuple[Place, ...] = ()
    outputs: tuple[Place, ...] = ()
    no_values = None
    try:
        values = tuple(places(model, _sites("attn.v", spec), state, options))
        outputs = tuple(places(model, _sites("attn.o", spec), state, options))
    except PicoAnalyzeError as error:
        no_values = str(error)
    norm = next((place.module for place in _norm(model, state, options)), None)
    names = [name for name, one in module.named_modules() if "attention" in type(one).__name__.lower()]
    attention = {
        layer: tuple(name for name in names if name.startswith(f"{block}.")) for layer, block in enumerate(blocks)
    }
    return Anatomy(spec, blocks, None, values, outputs, no_values, norm, attention)


def _sites(kind: str, spec: ModelSpec) -> list[str]:
    return [str(Site(layer, kind)) for layer in range(spec.n_layers)]


def _norm(model: Model, state: State, options: ReadOptions) -> list[Place]:
    if "norm.final" not in model.decoder.found.sites:
        return []
    try:
        return places(model, ["norm.final"], state, options)
    except DataError:
        return []
