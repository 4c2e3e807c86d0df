"""An example plug-in of pico-analyze: one metric and one component."""

from pico_analyze.components.spec import ComponentSpec, Labelled, Unit
from pico_analyze.matrices.matrix import Dense, Matrix, widened
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
)


def _build(read, model, data, unit, heads=True):
    array = widened(read(data, f"layers.{unit.layer}.attn.o"))
    if heads:
        width = model.head_dim
        for head in range(model.n_heads):
            yield Labelled(unit.layer, unit.site, head, Dense(array[:, head * width : (head + 1) * width]))


ATTENTION_OUTPUT = ComponentSpec(
    name="attention_output",
    definition="The columns of W_O that each head writes through (d_model x head_dim).",
    reference="",
    units=lambda model, data, sites: [Unit(layer, "attn.o") for layer in range(model.n_layers)],
    needs=lambda data, unit: [(data, f"layers.{unit.layer}.attn.o")],
    build=_build,
    accepts=frozenset({"weights", "gradients"}),
    has_heads=True,
)
