"""What a metric and a component are: their description, their parameters, and the one validator that all
calls pass.

A `MetricSpec` is data (the page that `pico-analyze metrics NAME` prints) around a pure function from matrices
to a `Result`. Calling it checks the parameters and the matrices once, so that the functions themselves trust
their input. A `ComponentSpec` says which tensors it needs and turns them into labelled matrices. Neither
knows stores or tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from pico_analyze.errors import UsageError, nearest
from pico_analyze.matrices.matrix import Matrix, as_matrix
from pico_analyze.stores.base import DATA, Data
from pico_schema import ModelSpec

ALL_DATA: frozenset[Data] = frozenset(DATA)

ParamValue = bool | int | float | str
Read = Callable[[Data, str], np.ndarray]
"""`read(data, site)`: activations (n_samples, n_features), weights and gradients (out, in); any float dtype."""


@dataclass(frozen=True)
class Result:
    """What a metric says about a matrix or a pair.

    `value` is NaN exactly when the metric is undefined there, and `reason` then says why. `extra` holds
    further numbers that belong to the value (a rank beside a condition number). `warning` tells of a value
    that is defined but doubtful; it is meant to be shown once per study, not once per row.
    """

    value: float
    reason: str | None = None
    extra: Mapping[str, float] = field(default_factory=dict)
    warning: str | None = None

    @classmethod
    def undefined(cls, reason: str, **extra: float) -> Result:
        """No value, and why."""
        return cls(math.nan, reason, extra)


def _explained(result: Result) -> Result:
    """A result that is NaN has a reason, also where a product of extreme entries overflowed on the way."""
    if math.isnan(result.value) and result.reason is None:
        return Result.undefined("the entries are too large or too small for their type", **result.extra)
    return result


@dataclass(frozen=True)
class Param:
    """One parameter of a metric or a component."""

    default: ParamValue
    help: str
    choices: tuple[ParamValue, ...] = ()
    low: float | None = None
    """Smallest allowed value."""
    high: float | None = None
    """Largest allowed value."""

    def parse(self, owner: str, name: str, raw: object) -> ParamValue:
        """`raw` (a value, or its text from a command line) as this parameter's type.

        Raises:
            UsageError: wrong type, not one of the choices, out of range.
        """
        value = self._typed(owner, name, raw)
        if self.choices and value not in self.choices:
            allowed = ", ".join(map(str, self.choices))
            hint = nearest(str(value), map(str, self.choices))
            raise UsageError(f"{owner}: {name}={value} is not one of {allowed}{hint}")
        if not isinstance(value, str) and not isinstance(value, bool):
            if math.isnan(value):
                raise UsageError(f"{owner}: {name} is not a number: give one")
            if self.low is not None and value < self.low:
                raise UsageError(f"{owner}: {name}={value} is below {self.low:g}, the smallest value allowed")
            if self.high is not None and value > self.high:
                raise UsageError(f"{owner}: {name}={value} is above {self.high:g}, the largest value allowed")
        return value

    def _typed(self, owner: str, name: str, raw: object) -> ParamValue:
        kind = type(self.default)
        wrong = UsageError(f"{owner}: {name}={raw!r} is not {_KIND_NAMES[kind]}, for example {name}={self.default}")
        if kind is bool:
            if isinstance(raw, bool):
                return raw
            text = str(raw).strip().lower()
            if text in ("true", "yes", "on", "1"):
                return True
            if text in ("false", "no", "off", "0"):
                return False
            raise wrong
        if isinstance(raw, bool):
            raise wrong
        if kind is str:
            if not isinstance(raw, str):
                raise wrong
            return raw.strip()
        try:
            number = float(raw)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise wrong from None
        if kind is float:
            return number
        if not number.is_integer():
            raise wrong
        return int(number)


_KIND_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}


def resolve_params(owner: str, declared: Mapping[str, Param], given: Mapping[str, object]) -> dict[str, ParamValue]:
    """`given` checked and completed with the defaults, in declaration order.

    Raises:
        UsageError: a parameter that `owner` does not have (names the nearest), or a value it does not take.
    """
    for name in given:
        if name not in declared:
            hint = nearest(name, declared)
            known = f"its parameters are {', '.join(declared)}" if declared else "it has none"
            raise UsageError(f"{owner} has no parameter {name!r}{hint} ({known})")
    return {
        name: param.parse(owner, name, given[name]) if name in given else param.default
        for name, param in declared.items()
    }


@dataclass(frozen=True)
class MetricSpec:
    """One metric: its page, and the function behind it.

    Calling the spec is the way to compute: ``spec(matrix, **params)`` for a single metric, ``spec(x, y,
    **params)`` for a comparison. Arrays are accepted in place of matrices.
    """

    name: str
    kind: Literal["single", "pair"]
    fn: Callable[..., Result]
    """`fn(matrix, **params)` or `fn(x, y, **params)`; may assume finite, non-empty matrices and resolved parameters."""
    definition: str
    range: str
    best: str
    """What the value at the good end of the range means, in words."""
    cost: str
    reference: str
    accepts: frozenset[Data] = ALL_DATA
    params: Mapping[str, Param] = field(default_factory=dict)
    same_width: bool = False
    """Pairs: whether both matrices must have the same number of columns."""
    similar: Literal["high", "low"] | None = None
    """Pairs: whether a high or a low value means similar (decides the side of a null distribution)."""

    def resolve(self, given: Mapping[str, object]) -> dict[str, ParamValue]:
        """The complete parameters; raises UsageError (see `resolve_params`)."""
        return resolve_params(f"metric {self.name!r}", self.params, given)

    def check_data(self, data: str) -> None:
        """Raise UsageError when the metric is not defined for this kind of data."""
        if data not in self.accepts:
            allowed = ", ".join(d for d in DATA if d in self.accepts)
            raise UsageError(f"metric {self.name!r} is not defined for {data}: it takes {allowed}")

    def __call__(self, x: Matrix | np.ndarray, y: Matrix | np.ndarray | None = None, /, **params: object) -> Result:
        """The metric's value.

        A matrix that is empty or has values that are not finite gives NaN with the reason.

        Raises:
            UsageError: unknown parameter or value out of its domain.
            UsageError: a second matrix missing or too many, or shapes that the metric cannot compare.
        """
        resolved = self.resolve(params)
        first = as_matrix(x)
        if self.kind == "single":
            if y is not None:
                raise UsageError(f"metric {self.name!r} describes one matrix, not a pair")
            return Result.undefined(first.problem) if first.problem else _explained(self.fn(first, **resolved))
        if y is None:
            raise UsageError(f"metric {self.name!r} compares two matrices: give a second one")
        second = as_matrix(y)
        self.check_shapes(first, second)
        for matrix, which in ((first, "first"), (second, "second")):
            if matrix.problem:
                return Result.undefined(f"{which} matrix: {matrix.problem}")
        return _explained(self.fn(first, second, **resolved))

    def check_shapes(self, x: Matrix, y: Matrix) -> None:
        """Raise UsageError when these two shapes cannot be compared by this metric."""
        if x.shape[0] != y.shape[0]:
            what = "samples" if x.samples or y.samples else "rows"
            raise UsageError(
                f"metric {self.name!r} compares matrices row by row, but one has {x.shape[0]} {what} and "
                f"the other {y.shape[0]}: compare the same {what}"
            )
        if self.same_width and x.shape[1] != y.shape[1]:
            raise UsageError(
                f"metric {self.name!r} needs matrices of the same width, but one has {x.shape[1]} columns "
                f"and the other {y.shape[1]}: choose runs of the same size, or a metric such as cka that "
                "allows different widths"
            )


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
