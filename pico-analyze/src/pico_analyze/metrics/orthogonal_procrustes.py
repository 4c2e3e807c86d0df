"""Orthogonal Procrustes: how far two representations are apart after the best rotation."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from pico_analyze.counting import counted
from pico_analyze.matrices.decompositions import singular_values, thin_svd
from pico_analyze.matrices.distinct import n_distinct_samples
from pico_analyze.matrices.matrix import Matrix
from pico_analyze.metrics.spec import MetricSpec, Result, pair_metric
from pico_analyze.parameters import Param

_CANCELS = 1e-6
"""Below this, 2 − 2ν has lost so many digits that its root would have fewer than six."""
_FEWEST = 3
"""Two samples differ along one line, which a rotation lays on any other."""


@pair_metric
def procrustes(
    x: Matrix, y: Matrix, *, form: Literal["distance", "similarity", "angular"] = "distance", squared: bool = True
) -> Result:
    """How far two representations are apart after centring, scaling to Frobenius norm 1 and the best rotation.

    With ν the nuclear norm of XᵀY: `distance` is min ‖X − YQ‖² = 2 − 2ν, the squared distance, or its root (a metric)
    with squared=False; `similarity` is ν; `angular` is arccos ν, a metric. A narrower side is padded with zeros.

    Args:
        x: (N, P) activations: N samples (rows) of P features; an array or a `Matrix`. Their mean over samples is
            subtracted here.
        y: (N, P′) activations of the same samples in the same order; P′ may differ from P.
        form: distance, similarity or angular.
        squared: Whether a distance is squared, as Ding et al. report it.

    Returns:
        distance: 0 to 2 (not squared: to √2), similarity: 0 to 1, angular: 0 to π/2 (radians); 0 (similarity: 1) for
        the same representation up to rotation and scale. Undefined (NaN) for fewer than 3 different samples, or a
        representation that does not vary over the samples.

    Raises:
        UsageError: different numbers of rows, or a parameter or value that does not exist.
        DataError: not matrices of real numbers.

    References:
        Schönemann 1966, A Generalized Solution of the Orthogonal Procrustes Problem, Psychometrika 31; Ding, Denain and
        Steinhardt 2021, Grounding Representation Similarity Through Statistical Testing, NeurIPS, equation 4; angular:
        Williams, Kunz, Kornblith and Linderman 2021, Generalized Shape Metrics on Neural Representations, NeurIPS,
        equation 7.
    """
    if (n := n_distinct_samples(x, y)) < _FEWEST:
        sample = "sample" if n == x.shape[0] else "different sample"
        return Result.undefined(f"{counted(n, f'{sample} is', f'{sample}s are')} too few: this needs {_FEWEST}")
    for matrix, which in ((x, "first"), (y, "second")):
        if not matrix.varies():
            return Result.undefined(f"the {which} representation does not vary over the samples")
    x, y = x.centred(), y.centred()
    first, second = x.reduced(), y.reduced()
    nuclear = float(singular_values(first.T @ second).sum())
    nuclear = min(1.0, nuclear / x.frobenius() / y.frobenius())
    if form == "similarity":
        return Result(nuclear)
    if form == "angular":
        return Result(math.acos(nuclear))
    distance = 2.0 - 2.0 * nuclear
    if squared:
        return Result(distance)
    if distance < _CANCELS:  # half of the digits of ν are not enough: from the difference itself
        distance = _difference(first / x.frobenius(), second / y.frobenius())
    return Result(math.sqrt(max(0.0, distance)))


def _difference(x: np.ndarray, y: np.ndarray) -> float:
    """min ‖X − YQ‖² over rotations Q, of (N, R) and (N, R′), the narrower padded with zeros."""
    if x.shape[1] < y.shape[1]:
        x, y = y, x
    u, _, v = thin_svd(y.T @ x)  # (R′, R′), (R′, R)
    rotated = y @ (u @ v)
    return float(np.linalg.norm(x - rotated) ** 2)


PROCRUSTES = MetricSpec(
    name="procrustes",
    kind="pair",
    fn=procrustes,
    definition=(
        "Squared distance of two representations of the same samples after centring, scaling to norm 1 and "
        "the best rotation: 2 − 2·‖XᵀY‖ nuclear; squared=false: its root, a metric. form=similarity: that nuclear "
        "norm; form=angular: its arc cosine. Widths may differ."
    ),
    formula=(
        r"\min_{Q^\top Q = I} \|\hat X - \hat Y Q\|_F^2 = 2 - 2\,\|\hat X^\top \hat Y\|_*, \qquad "
        r"\hat X = \frac{X}{\|X\|_F}, \quad \hat Y = \frac{Y}{\|Y\|_F}"
    ),
    range="distance: 0 to 2 (squared=false: to √2); similarity: 0 to 1; angular: 0 to π/2",
    best="0 (similarity: 1): the same up to rotation and scale",
    cost="O(N·R·R′) and one SVD of R x R′, R the width, or the rank of a circuit",
    reference=(
        "Schönemann 1966, Psychometrika 31; Ding et al. 2021, Grounding Representation Similarity, equation "
        "4; angular: Williams et al. 2021, Generalized Shape Metrics, equation 7"
    ),
    accepts=frozenset({"activations"}),
    params={
        "form": Param("distance", "what of it to report", choices=("distance", "similarity", "angular")),
        "squared": Param(True, "form=distance: squared, as Ding et al. report it; false: its root"),
    },
    similar="low",
    power=2,
)
