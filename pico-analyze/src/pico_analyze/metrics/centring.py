"""One rule for all spectra: when the mean over rows is subtracted before singular values are taken."""

from __future__ import annotations

from typing import Literal

from pico_analyze.matrices.matrix import Matrix
from pico_analyze.metrics.spec import Result
from pico_analyze.parameters import Param

Centre = Literal["auto", "yes", "no"]


def centre_param(default: Centre = "auto") -> Param:
    """The parameter `centre` of a metric."""
    return Param(
        default,
        "subtract the mean over rows: auto (from activations, whose rows are samples, and from nothing else), yes, no",
        choices=("auto", "yes", "no"),
    )


def centred(matrix: Matrix, centre: Centre, which: str = "") -> Matrix | Result:
    """The matrix whose spectrum is meant, or why there is none.

    Args:
        matrix: (N, P).
        centre: auto: the mean over samples is subtracted from activations, so that squares of singular values are
            eigenvalues of N times their covariance, and weights and gradients are taken as they are; yes, no: whatever
            the rows are.
        which: Which of two matrices it is, for the reason.
    """
    if centre == "no" or (centre == "auto" and not matrix.samples):
        return matrix
    if matrix.shape[0] < 2:
        return Result.undefined("one sample has no variance")
    if not matrix.varies():
        return Result.undefined(
            f"the {which} representation does not vary over the samples" if which else "no column varies over the rows"
        )
    return matrix.centred()
