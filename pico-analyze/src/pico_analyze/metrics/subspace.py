"""Overlap of leading singular subspaces."""

from __future__ import annotations

import numpy as np

from pico_analyze.errors import UsageError
from pico_analyze.matrices.matrix import Matrix
from pico_analyze.metrics.spec import MetricSpec, Result
from pico_analyze.parameters import Param


def subspace_overlap(x: Matrix, y: Matrix, k: int = 8, side: str = "left") -> Result:
    """‖UₓᵀU_y‖²/k of the first k singular vectors of two matrices, in [0, 1]: the mean squared cosine of the
    angles.

    `side=left` (default): singular vectors over rows (outputs of a weight, samples of activations); widths
    may differ. `side=right`: over columns (inputs of a weight, features of activations), which must be
    equally many. Activations are centred over samples. Krzanowski 1979, Between-groups comparison of
    principal components, section 3. About k/dimension by chance (`extra` chance). Undefined when a matrix has
    rank below k.

    Raises:
        UsageError: `side=right` and different widths.
    """
    if side == "right" and x.shape[1] != y.shape[1]:
        raise UsageError(
            f"metric 'subspace_overlap': side=right compares features, but one matrix has {x.shape[1]} and "
            f"the other {y.shape[1]}: use side=left"
        )
    bases = []
    for matrix, which in ((x, "first"), (y, "second")):
        if matrix.samples:
            if matrix.shape[0] < 2 or not matrix.varies():
                return Result.undefined(f"the {which} representation does not vary over the samples")
            matrix = matrix.centred()
        if matrix.rank < k:
            return Result.undefined(f"the {which} matrix has rank {matrix.rank}, below k = {k}")
        bases.append(matrix.left_singular_vectors(k) if side == "left" else matrix.right_singular_vectors(k))
    dimension = x.shape[0] if side == "left" else x.shape[1]
    overlap = float(np.linalg.norm(bases[0].T @ bases[1]) ** 2) / k
    return Result(min(1.0, overlap), extra={"chance": min(1.0, k / dimension)})


SUBSPACE_OVERLAP = MetricSpec(
    name="subspace_overlap",
    kind="pair",
    fn=subspace_overlap,
    definition=(
        "Mean squared cosine of the principal angles between the spaces of the first k singular vectors: "
        "left ones (output directions of a weight, samples of activations) or right ones (input directions, "
        "features)."
    ),
    range="0 to 1; about k/dimension by chance",
    best="1: the same leading subspace",
    cost="one SVD with vectors of each side",
    reference="Krzanowski 1979, Between-groups comparison of principal components, JASA 74, section 3",
    params={
        "k": Param(8, "how many singular vectors", low=1),
        "side": Param("left", "which singular vectors", choices=("left", "right")),
    },
    similar="high",
    bounds=(0.0, 1.0),
)
