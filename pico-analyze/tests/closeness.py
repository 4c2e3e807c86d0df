"""Whether two computations of the same numbers agree: a tolerance that follows the type and the size of the numbers.

Rounding is relative to the type's epsilon and to the largest number that entered a sum, not to each result: sums that
cancel leave small results with the error of large terms. So arrays are compared by their largest difference, in
epsilons of the largest magnitude, and the test states how many and why.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def assert_close(found: npt.ArrayLike, expected: npt.ArrayLike, *, factor: float, dtype: npt.DTypeLike = None) -> None:
    """Fail unless the largest difference is at most `factor` epsilons of the largest expected magnitude.

    Args:
        found: Numbers of any shape.
        expected: Numbers of the same shape.
        factor: Epsilons allowed.
        dtype: In which they were computed; by default the coarser of the two types.
    """
    ours, theirs = np.asarray(found), np.asarray(expected)
    assert ours.shape == theirs.shape, f"shapes {ours.shape} and {theirs.shape}"
    eps = np.finfo(dtype).eps if dtype is not None else max(np.finfo(side.dtype).eps for side in (ours, theirs))
    assert np.isfinite(ours).all() and np.isfinite(theirs).all(), "not finite"
    difference = np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max(initial=0.0)
    allowed = factor * eps * np.abs(theirs).max(initial=0.0)
    assert difference <= allowed, f"{difference:.3g} apart, {allowed:.3g} allowed: {factor:g} epsilons of the largest"
