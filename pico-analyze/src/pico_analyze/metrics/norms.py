"""Norms of a matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pico_analyze.matrices.matrix import Matrix
from pico_analyze.metrics.resampling import Resampling
from pico_analyze.metrics.spec import MetricSpec, Result, single_metric
from pico_analyze.parameters import Param, ParamValue


@single_metric
def norm(matrix: Matrix, *, kind: Literal["frobenius", "nuclear", "spectral", "max_abs"] = "frobenius") -> Result:
    """A norm of a matrix with singular values s: how large it is.

    Args:
        matrix: (N, P) array or `Matrix` of weights, gradients or activations, taken as it is.
        kind: frobenius (Σ s²)^½, nuclear Σ s, spectral max s, or max_abs, the largest absolute entry (which torch calls
            the inf norm of the flattened matrix).

    Returns:
        0 to infinity, in the units of the entries; 0 for the zero matrix alone. Undefined (NaN) only where entries are
        not finite, or (frobenius) their squares are not.

    Raises:
        UsageError: a parameter that does not exist or a value that it does not take.
        DataError: not a matrix of real numbers.

    References:
        Golub and Van Loan 2013, Matrix Computations (4th ed.), section 2.3.
    """
    if kind == "frobenius":
        reason = matrix.out_of_range(2)
        return Result(matrix.frobenius()) if reason is None else Result.undefined(reason)
    if kind == "nuclear":
        return Result(float(matrix.singular_values.sum()))
    if kind == "spectral":
        return Result(float(matrix.singular_values[0]))
    return Result(max(float(max(piece.max(), -piece.min())) for piece in matrix.pieces()))


def _resampling(params: Mapping[str, ParamValue]) -> Resampling:
    return Resampling(refused="the largest entry") if params["kind"] == "max_abs" else Resampling(grows=0.5)


NORM = MetricSpec(
    name="norm",
    kind="single",
    fn=norm,
    definition=(
        "How large a matrix is. With singular values s: frobenius (Σ s²)^½; nuclear Σ s; spectral max s; "
        "max_abs the largest absolute entry (called inf by pico-analyze 1.0)."
    ),
    formula=(
        r"\|X\|_F = \Bigl(\sum_i s_i^2\Bigr)^{1/2}, \qquad \|X\|_* = \sum_i s_i, \qquad "
        r"\|X\|_2 = s_1, \qquad \|X\|_{\max} = \max_{ij} |x_{ij}|"
    ),
    range="0 to infinity; 0 only for the zero matrix",
    best="none: a size, to be read over steps",
    cost="frobenius: one pass; max_abs: one pass over the product; nuclear and spectral: one SVD, shared",
    reference="Golub and Van Loan 2013, Matrix Computations (4th ed.), section 2.3",
    params={"kind": Param("frobenius", "which norm", choices=("frobenius", "nuclear", "spectral", "max_abs"))},
    resampling=_resampling,
)
