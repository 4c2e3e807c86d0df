"""What a metric is: its description, its parameters, and the one validator that all calls pass.

A `MetricSpec` is data (the page that `pico-analyze metrics NAME` prints) around a pure function from matrices to a
`Result`. Calling it checks the parameters and the matrices once, so that the functions themselves trust their input. It
knows neither stores nor tables. `single_metric` and `pair_metric` make of such a function one that people call with
arrays, and that has the same name, parameters and docstring.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, wraps
from inspect import Parameter, signature
from typing import Concatenate, Literal, ParamSpec, Self

from pico_analyze.errors import UsageError
from pico_analyze.matrices.matrix import Matrix, MatrixLike, as_matrix
from pico_analyze.metrics.resampling import Resampling, as_it_is
from pico_analyze.parameters import Param, ParamValue, resolve_params
from pico_analyze.registry import Registry
from pico_analyze.stores.base import ALL_DATA, DATA, Data

P = ParamSpec("P")


class Result(float):
    """What a metric says about a matrix or a pair: a number, and what belongs to it. Not to be changed.

    It is used as any float. It is NaN exactly where the metric is undefined (also for a matrix that is empty or has
    entries that are not finite), and `reason` then says why. `extra` holds what else belongs to the value (a rank
    beside a condition number), numbers or texts. `warning` tells of a value that is defined but doubtful; it is meant
    to be shown once per study, not once per row.

    Args:
        value: The number.
        reason: Why there is none.
        extra: What else belongs to it, by name.
        warning: What makes the value doubtful.
    """

    __slots__ = ("extra", "reason", "warning")
    extra: Mapping[str, float | str]
    reason: str | None
    warning: str | None

    def __new__(
        cls,
        value: float,
        reason: str | None = None,
        extra: Mapping[str, float | str] | None = None,
        warning: str | None = None,
    ) -> Self:
        """A number with what belongs to it."""
        self = super().__new__(cls, value)
        self.reason, self.extra, self.warning = reason, extra or {}, warning
        return self

    @classmethod
    def undefined(cls, reason: str, **extra: float | str) -> Self:
        """No value, and why."""
        return cls(math.nan, reason, extra)

    @property
    def value(self) -> float:
        """The number alone."""
        return float(self)

    def __reduce__(self) -> tuple[type[Self], tuple[float, str | None, dict[str, float | str], str | None]]:
        return type(self), (float(self), self.reason, dict(self.extra), self.warning)

    def __repr__(self) -> str:
        parts = [float.__repr__(self), *(f"{name}={_short(value)}" for name, value in self.extra.items())]
        texts = {"reason": self.reason, "warning": self.warning}
        parts += [f"{name}={text!r}" for name, text in texts.items() if text is not None]
        return f"Result({', '.join(parts)})"

    def __str__(self) -> str:
        return float.__repr__(self)


def _short(value: float | str) -> str:
    return repr(value) if isinstance(value, str) else f"{value:g}"


def _explained(result: Result) -> Result:
    """A result that is NaN has a reason, also where a product of extreme entries overflowed on the way."""
    if math.isnan(result.value) and result.reason is None:
        return Result.undefined("the entries are too large or too small for their type", **result.extra)
    return result


@dataclass(frozen=True)
class MetricSpec:
    """One metric: its page, and the function behind it.

    Calling the spec is the way to compute: ``spec(matrix, **params)`` for a single metric, ``spec(x, y,
    **params)`` for a comparison. Arrays are accepted in place of matrices.
    """

    name: str
    kind: Literal["single", "pair"]
    fn: Callable[..., Result]
    """`fn(matrix, **params)` or `fn(x, y, **params)`; may assume finite, non-empty matrices and resolved parameters. A
    function that takes arrays (`single_metric`, `pair_metric`) stands for the one on matrices that is in it."""
    definition: str
    range: str
    best: str
    """What the value at the good end of the range means, in words."""
    cost: str
    reference: str
    formula: str = ""
    """The same in LaTeX, with default parameters, for pages that render it."""
    accepts: frozenset[Data] = ALL_DATA
    params: Mapping[str, Param] = field(default_factory=dict)
    same_width: bool = False
    """Pairs: whether both matrices must have the same number of columns."""
    similar: Literal["high", "low"] | None = None
    """Pairs: whether a high or a low value means similar (decides the side of a null distribution)."""
    bounds: tuple[float, float] | None = None
    """Lowest and highest end of the scale that pictures draw it on, as long as all values lie within; None: the scale
    follows the values."""
    power: int = 0
    """Highest power of the entries that is formed on the way: where it leaves the range of numbers, there is no value
    but a reason. 0: none, as of what is made of singular values or of shares."""
    resampling: Callable[[Mapping[str, ParamValue]], Resampling] = as_it_is
    """What becomes of the value, with these parameters, when it is computed of a part of the rows."""
    axis: Literal["linear", "log"] = "linear"
    """Whether pictures draw positive values on a linear or a logarithmic axis."""
    companion: str | None = None
    """Name in `Result.extra` of a less biased value of the same quantity, which the metric gives beside a value that it
    warns of; tables show it in brackets."""
    revision: int = 0
    """Raised whenever the value of the same question changes: rows of before are then computed again."""

    def __post_init__(self) -> None:
        if self.bounds is not None and not self.bounds[0] < self.bounds[1]:
            raise ValueError(f"bounds {self.bounds} of metric {self.name!r} are not a low and a high end")
        object.__setattr__(self, "fn", getattr(self.fn, _ON_MATRICES, self.fn))

    @cached_property
    def function(self) -> Callable[..., Result]:
        """The metric as people call it, with arrays and with parameters by name."""
        return _on_arrays(self.fn, lambda: self)

    def resolve(self, given: Mapping[str, object]) -> dict[str, ParamValue]:
        """The complete parameters; raises UsageError (see `resolve_params`)."""
        return resolve_params(f"metric {self.name!r}", self.params, given)

    def check_data(self, data: str) -> None:
        """Raise UsageError when the metric is not defined for this kind of data."""
        if data not in self.accepts:
            allowed = ", ".join(d for d in DATA if d in self.accepts)
            raise UsageError(f"metric {self.name!r} is not defined for {data}: it takes {allowed}")

    def __call__(self, x: MatrixLike, y: MatrixLike | None = None, /, **params: object) -> Result:
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
            problem = self._problem(first)
            return Result.undefined(problem) if problem else _explained(self.fn(first, **resolved))
        if y is None:
            raise UsageError(f"metric {self.name!r} compares two matrices: give a second one")
        second = as_matrix(y)
        self.check_shapes(first, second)
        for matrix, which in ((first, "first"), (second, "second")):
            if problem := self._problem(matrix):
                return Result.undefined(f"{which} matrix: {problem}")
        return _explained(self.fn(first, second, **resolved))

    def _problem(self, matrix: Matrix) -> str | None:
        return matrix.problem or (matrix.out_of_range(self.power) if self.power else None)

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


METRICS = Registry("pico_analyze.metrics", MetricSpec)
"""All metrics: the built-in ones and those of plug-ins."""


_ON_MATRICES = "on_matrices"
"""Attribute of a function of arrays: the function of matrices that it was made of."""


def single_metric(function: Callable[Concatenate[Matrix, P], Result]) -> Callable[Concatenate[MatrixLike, P], Result]:
    """The metric of this name as a function of an array; everything is checked as its spec checks it."""
    return _on_arrays(function, lambda: METRICS.get(function.__name__))


def pair_metric(
    function: Callable[Concatenate[Matrix, Matrix, P], Result],
) -> Callable[Concatenate[MatrixLike, MatrixLike, P], Result]:
    """The metric of this name as a function of two arrays; everything is checked as its spec checks it."""
    return _on_arrays(function, lambda: METRICS.get(function.__name__))


def _on_arrays(function: Callable[..., Result], spec: Callable[[], MetricSpec]) -> Callable[..., Result]:
    @wraps(function)
    def on_arrays(*matrices: MatrixLike, **params: object) -> Result:
        return spec()(*matrices, **params)

    shown = signature(function)
    parameters = [
        parameter
        if parameter.kind is Parameter.KEYWORD_ONLY
        else parameter.replace(annotation="ArrayLike | Matrix", kind=Parameter.POSITIONAL_ONLY)
        if parameter.default is Parameter.empty
        else parameter.replace(kind=Parameter.KEYWORD_ONLY)
        for parameter in shown.parameters.values()
    ]
    vars(on_arrays).update({_ON_MATRICES: function, "__signature__": shown.replace(parameters=parameters)})
    return on_arrays
