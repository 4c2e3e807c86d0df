"""What a component is: which tensors of a checkpoint it needs, and how they become labelled matrices.

A `ComponentSpec` is data (the page that `pico-analyze components NAME` prints) around three functions. It knows
neither stores nor tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pico_analyze.errors import UsageError
from pico_analyze.matrices.matrix import Matrix
from pico_analyze.parameters import Param, ParamValue, resolve_params
from pico_analyze.registry import Registry
from pico_analyze.stores.base import ALL_DATA, DATA, Data
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
    """`build(read, model, data, unit, heads=True, **params)`: the whole first, then each head when `heads`."""
    accepts: frozenset[Data] = ALL_DATA
    has_heads: bool = False
    params: Mapping[str, Param] = field(default_factory=dict)

    def resolve(self, given: Mapping[str, object]) -> dict[str, ParamValue]:
        """The complete parameters; raises UsageError (see `resolve_params`)."""
        return resolve_params(f"component {self.name!r}", self.params, given)

    def check(self, data: str, params: Mapping[str, Any]) -> None:
        """Raise UsageError when the component does not exist for this data with these parameters."""
        if data not in self.accepts:
            allowed = ", ".join(d for d in DATA if d in self.accepts)
            raise UsageError(f"component {self.name!r} has no {data}: it has {allowed}")
        if params.get("form") == "head" and data == "activations":
            raise UsageError(
                f"component {self.name!r}: form=head is a product of weights; use form=residual for activations"
            )


COMPONENTS = Registry("pico_analyze.components", ComponentSpec)
"""All components: the built-in ones and those of plug-ins."""
