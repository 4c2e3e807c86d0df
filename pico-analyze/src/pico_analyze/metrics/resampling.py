"""What becomes of a metric's value when it is computed of a part of the rows, as intervals do.

A metric says it as data, so that the statistics know no metric by name: how the value grows with the number of samples,
which of its parameters count samples, that it is a largest entry, of which resamples tell nothing, or that it can be
computed of many parts at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from pico_analyze.matrices.matrix import Matrix
    from pico_analyze.parameters import ParamValue


@dataclass(frozen=True)
class Resampling:
    """What becomes of a value, with certain parameters, when it is computed of a part of the rows."""

    grows: float = 0.0
    """The value grows as this power of the number of samples: ½ for the norms of a matrix with a row for each."""
    counts: tuple[str, ...] = ()
    """Parameters that are numbers of samples: of a part of them, the same part."""
    correlation: bool = False
    """The value is a correlation, −1 to 1: its errors are alike, whatever it is, on the scale of its inverse hyperbolic
    tangent (Fisher 1921, On the "Probable Error" of a Coefficient of Correlation, Metron 1)."""
    refused: str | None = None
    """Why resamples tell nothing of the value's error: what it is, as in «the largest entry»."""
    together: Callable[[Matrix, Matrix, np.ndarray], np.ndarray] | None = None
    """Pairs: the values of many parts at once, faster than one by one. It takes both matrices and which rows each part
    keeps, (D, R), and gives (D,) values, those that the metric would have given, up to rounding."""


def as_it_is(_params: Mapping[str, ParamValue]) -> Resampling:
    """Of a metric that estimates the same thing from any number of samples."""
    return Resampling()


def as_a_correlation(_params: Mapping[str, ParamValue]) -> Resampling:
    """Of a metric that is one."""
    return Resampling(correlation=True)
