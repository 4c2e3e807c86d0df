"""Overlap of leading singular subspaces."""

from __future__ import annotations

from typing import Literal

import numpy as np

from pico_analyze.counting import counted
from pico_analyze.errors import UsageError
from pico_analyze.matrices.distinct import n_distinct_samples
from pico_analyze.matrices.matrix import Matrix
from pico_analyze.metrics.centring import centre_param, centred
from pico_analyze.metrics.spec import MetricSpec, Result, pair_metric
from pico_analyze.parameters import Param


@pair_metric
def subspace_overlap(
    x: Matrix,
    y: Matrix,
    *,
    k: int = 8,
    side: Literal["left", "right"] = "left",
    centre: Literal["auto", "yes", "no"] = "auto",
) -> Result:
    """Overlap of the spaces of the first k singular vectors: ‖UₓᵀU_y‖²/k, the mean squared cosine of their angles.

    Args:
        x: (N, P) array or `Matrix`. A plain array is taken as weights or gradients, as it is; give activations as
            `activations(x)`.
        y: (N, P′) likewise; P′ may differ from P with side left.
        k: How many singular vectors, at least 1.
        side: left: over rows (outputs of a weight, samples of activations); right: over columns (inputs of a weight,
            features of activations).
        centre: Whether the mean over rows is subtracted: auto (from activations only), yes, no.

    Returns:
        0 to 1; 1 for the same leading subspace, about k/dimension by chance (`extra`: chance). Undefined (NaN) when a
        matrix has a rank below k, activations do not vary over the samples, or (left) there are at most k + 1 different
        samples. `extra` also: rank, tolerance, stored (numerical rank, the largest singular value that counts as
        rounding, the type that decides it), and the same of the target.

    Raises:
        UsageError: different numbers of rows, or a parameter or value that does not exist, or side=right and
            different widths.
        DataError: not matrices of real numbers.

    References:
        Krzanowski 1979, Between-Groups Comparison of Principal Components, JASA 74, section 3.
    """
    if side == "right" and x.shape[1] != y.shape[1]:
        raise UsageError(
            f"metric 'subspace_overlap': side=right compares features, but one matrix has {x.shape[1]} and "
            f"the other {y.shape[1]}: use side=left"
        )
    bases, facts = [], dict[str, float | str]()
    for matrix, which, suffix in ((x, "first", ""), (y, "second", "_target")):
        meant = centred(matrix, centre, which)
        if isinstance(meant, Result):
            return meant
        facts |= meant.numerical_rank.facts(suffix)
        if meant.rank < k:
            return Result.undefined(f"the {which} matrix has rank {meant.rank}, below k = {k}", **facts)
        bases.append(meant.left_singular_vectors(k) if side == "left" else meant.right_singular_vectors(k))
    dimension = x.shape[1]
    if side == "left":
        dimension = n_distinct_samples(x, y) if x.samples and y.samples else x.shape[0]
        if x.samples and y.samples and k >= dimension - 1:
            differ = counted(dimension, "different sample")
            return Result.undefined(f"{differ} vary in at most {dimension - 1} directions: any {k} are the same ones")
    overlap = float(np.linalg.norm(bases[0].T @ bases[1]) ** 2) / k
    return Result(min(1.0, overlap), extra={"chance": min(1.0, k / dimension), **facts})


SUBSPACE_OVERLAP = MetricSpec(
    name="subspace_overlap",
    kind="pair",
    fn=subspace_overlap,
    definition=(
        "Mean squared cosine of the principal angles between the spaces of the first k singular vectors: "
        "left ones (output directions of a weight, samples of activations) or right ones (input directions, "
        "features). Activations are centred over samples first (centre=auto)."
    ),
    formula=r"\frac{\|U_X^\top U_Y\|_F^2}{k}, \qquad U_X,\ U_Y \in \mathbb{R}^{N \times k}",
    range="0 to 1; about k/dimension by chance",
    best="1: the same leading subspace",
    cost="one SVD with vectors of each side",
    reference="Krzanowski 1979, Between-groups comparison of principal components, JASA 74, section 3",
    params={
        "k": Param(8, "how many singular vectors", low=1),
        "side": Param("left", "which singular vectors", choices=("left", "right")),
        "centre": centre_param(),
    },
    similar="high",
    bounds=(0.0, 1.0),
    revision=1,
    power=2,
)
