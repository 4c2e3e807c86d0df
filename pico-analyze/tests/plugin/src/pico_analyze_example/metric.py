"""A metric: how far the largest singular value stands out."""

from pico_analyze.matrices.matrix import Matrix
from pico_analyze.metrics.spec import MetricSpec, Result
from pico_analyze.parameters import Param


def spectral_gap(matrix: Matrix, power: int = 1) -> Result:
    """1 − (s₂/s₁)^power of the two largest singular values, in [0, 1]. Undefined for the zero matrix."""
    values = matrix.singular_values  # computed once, shared with every other spectral metric
    if values[0] == 0:
        return Result.undefined("all entries are zero")
    second = values[1] if len(values) > 1 else 0.0
    return Result(float(1 - (second / values[0]) ** power))


SPECTRAL_GAP = MetricSpec(
    name="spectral_gap",
    kind="single",
    fn=spectral_gap,
    definition="1 − (s2/s1)^power: how far the largest singular value stands out.",
    range="0 to 1",
    best="1: a single direction",
    cost="one SVD, shared",
    reference="Golub and Van Loan 2013, Matrix Computations, section 8.2",
    params={"power": Param(1, "exponent of the ratio", low=1)},
    bounds=(0.0, 1.0),
)
