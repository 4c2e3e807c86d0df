"""What a component is: which tensors of a checkpoint it needs, and how they become labelled matrices.

A `ComponentSpec` is data (the page that `pico-analyze components NAME` prints) around three functions. It knows
neither stores nor tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pico_analyze.errors import DataError, PluginError, UsageError
from pico_analyze.matrices.matrix import Matrix
from pico_analyze.parameters import Param, ParamValue, resolve_params
from pico_analyze.registry import Registry
from pico_analyze.stores.base import ALL_DATA, DATA, Data
from pico_analyze.stores.sites import MatrixSite
from pico_schema import ModelSpec

Read = Callable[[Data, str], np.ndarray]
"""`read(data, site)`: activations (n_samples, n_features), weights and gradients (out, in); any float dtype."""


@dataclass(frozen=True)
class Unit:
    """One thing a component can look at: a layer (None for what a model has once) and the label of its rows' `site`."""

    layer: int | None
    site: str


@dataclass(frozen=True)
class Labelled:
    """A matrix and where it belongs. `head` is None for the whole (all heads together, or none)."""

    layer: int | None
    site: str
    head: int | None
    matrix: Matrix


@dataclass(frozen=True)
class Absent:
    """Data that a component does not have while one of its parameters has a certain value."""

    data: Data
    param: str
    value: ParamValue
    why: str
    """The sentence that refuses it: why there is none, and what to ask for instead."""


@dataclass(frozen=True)
class ComponentSpec:
    """One component: its page, the tensors it needs, and how they become matrices."""

    name: str
    definition: str
    reference: str
    units: Callable[[ModelSpec, Data, Sequence[str]], list[Unit]]
    """`units(model, data, sites)`: what it can look at, given canonical names of the sites wanted (or available)."""
    needs: Callable[[Data, Unit], list[tuple[Data, str]]]
    """`needs(data, unit)`: every (data, site) that `build` will read for this unit."""
    build: Callable[..., Iterator[Labelled]]
    """`build(read, model, data, unit, **params)`: its matrix. With `has_heads` it is also given `heads`: the whole
    first, if there is one, then each head when `heads`."""
    accepts: frozenset[Data] = ALL_DATA
    """Kinds of data that it exists for."""
    has_heads: bool = False
    """Whether it is also computed head by head."""
    has_whole: bool = True
    """Whether there is a matrix of all heads together. Without one its heads are what it is: they are computed also
    where only wholes are asked for, and shown one by one."""
    params: Mapping[str, Param] = field(default_factory=dict)
    absent: tuple[Absent, ...] = ()
    """Combinations of data and a parameter's value that do not exist; refused before anything is read."""
    takes_sites: bool = False
    """Whether `--site` chooses what it looks at; where the option is left out, the captured sites, of weights too. The
    sites of others follow from what they are."""

    def __post_init__(self) -> None:
        if not (self.has_heads or self.has_whole):
            raise ValueError(f"component {self.name!r} has neither heads nor a whole: nothing to measure")
        for absent in self.absent:
            if absent.param not in self.params:
                raise ValueError(f"component {self.name!r} has no parameter {absent.param!r}, which `absent` names")

    def resolve(self, given: Mapping[str, object]) -> dict[str, ParamValue]:
        """The complete parameters; raises UsageError (see `resolve_params`)."""
        return resolve_params(f"component {self.name!r}", self.params, given)

    def check(self, data: str, params: Mapping[str, Any]) -> None:
        """Raise UsageError when the component does not exist for this data with these parameters."""
        if data not in self.accepts:
            allowed = ", ".join(d for d in DATA if d in self.accepts)
            raise UsageError(f"component {self.name!r} has no {data}: it has {allowed}")
        for absent in self.absent:
            if data == absent.data and params.get(absent.param) == absent.value:
                raise UsageError(f"component {self.name!r}: {absent.why}")

    def matrices(
        self, read: Read, model: ModelSpec, data: Data, unit: Unit, *, heads: bool, params: Mapping[str, Any]
    ) -> list[Labelled]:
        """The matrices of a unit, the whole first.

        Raises:
            DataError: the tensors do not fit the model's description.
            PluginError: `build` gave no matrix, or two for one place.
        """
        asked = {"heads": heads} if self.has_heads else {}
        built = list(self.build(_fitting(read, model), model, data, unit, **asked, **params))
        places = {(one.layer, one.site, one.head) for one in built}
        if not built or len(places) < len(built):
            fault = "two matrices for one head" if built else "no matrix" if heads else "no whole (see has_whole)"
            place = unit.site if unit.layer is None else f"{unit.site} of layer {unit.layer}"
            raise PluginError(f"component {self.name!r} gives {fault} for {data} at {place}: update the plug-in")
        return built


def _fitting(read: Read, model: ModelSpec) -> Read:
    """The same, with every tensor checked against the model's description before it becomes part of a matrix."""

    def checked(data: Data, site: str) -> np.ndarray:
        array, parsed = read(data, site), MatrixSite.parse(site)
        if parsed.tensor is not None:  # whatever shape it has
            return array
        kind = parsed.kind
        if data == "noise":
            fits, expected = array.ndim == 2 and len(array) > 2 and array.shape[1] == 3, "(parts + 1, 3)"
        elif data == "activations":
            fits = array.ndim == 2 and array.shape[1] == model.activation_width(kind)
            expected = f"(samples, {model.activation_width(kind)})"
        else:
            fits = array.shape == model.weight_shape(kind)
            expected = str(model.weight_shape(kind))
        if not fits:
            raise DataError(
                f"{data} of {site} have the shape {array.shape}, by the model's description it is {expected}: tensor "
                "and description are not of one model"
            )
        return array

    return checked


COMPONENTS = Registry("pico_analyze.components", ComponentSpec)
"""All components: the built-in ones and those of plug-ins."""
