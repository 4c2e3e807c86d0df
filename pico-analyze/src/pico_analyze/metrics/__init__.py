"""Metrics: pure functions from matrices to a number, and each with its description.

    from pico_analyze.metrics import cka
    cka(X, Y)                      # two arrays of the same N samples (rows)
    cka(X, Y, debiased=True)

Every metric is a function here, also those of plug-ins: of arrays or of a `Matrix`, with its parameters by name. It
gives a `Result`: a float that also has `reason` (why it is NaN), `extra` (numbers that belong to it) and `warning`.
Plain arrays are measured as they are; `activations(X)` says that rows are samples, for metrics that subtract the mean
over them from activations alone, and with `stored="bfloat16"` in which type they were before.

`spec` (what a metric is) and one file a family. A function is imported when it is asked for.
"""

from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from pico_analyze.errors import nearest
from pico_analyze.matrices.matrix import activations as activations
from pico_analyze.metrics.spec import METRICS
from pico_analyze.metrics.spec import Result as Result

if TYPE_CHECKING:  # for type checkers and editors; at run time names come from the registry
    from pico_analyze.metrics.cca import mean_cca as mean_cca
    from pico_analyze.metrics.cca import pwcca as pwcca
    from pico_analyze.metrics.cca import svcca as svcca
    from pico_analyze.metrics.change import cosine as cosine
    from pico_analyze.metrics.change import relative_change as relative_change
    from pico_analyze.metrics.cloud import anisotropy as anisotropy
    from pico_analyze.metrics.cloud import intrinsic_dimension as intrinsic_dimension
    from pico_analyze.metrics.kernel_alignment import cka as cka
    from pico_analyze.metrics.neighbours import mutual_knn as mutual_knn
    from pico_analyze.metrics.neurons import dead_fraction as dead_fraction
    from pico_analyze.metrics.neurons import dense_fraction as dense_fraction
    from pico_analyze.metrics.neurons import massive_activations as massive_activations
    from pico_analyze.metrics.noise_scale import gradient_noise as gradient_noise
    from pico_analyze.metrics.norms import norm as norm
    from pico_analyze.metrics.orthogonal_procrustes import procrustes as procrustes
    from pico_analyze.metrics.power_law import power_law_alpha as power_law_alpha
    from pico_analyze.metrics.representational_similarity import rsa as rsa
    from pico_analyze.metrics.sparsity import gini as gini
    from pico_analyze.metrics.sparsity import hoyer as hoyer
    from pico_analyze.metrics.sparsity import kurtosis as kurtosis
    from pico_analyze.metrics.sparsity import near_zero_fraction as near_zero_fraction
    from pico_analyze.metrics.spectrum import condition_number as condition_number
    from pico_analyze.metrics.spectrum import effective_rank as effective_rank
    from pico_analyze.metrics.spectrum import participation_ratio as participation_ratio
    from pico_analyze.metrics.spectrum import per as per
    from pico_analyze.metrics.spectrum import rankme as rankme
    from pico_analyze.metrics.spectrum import stable_rank as stable_rank
    from pico_analyze.metrics.subspace import subspace_overlap as subspace_overlap
else:  # hidden from type checkers, for which a module with __getattr__ has every name

    def __getattr__(name: str) -> object:
        if name == "__all__":
            return _public()
        if name.startswith("_") or name not in METRICS.names():
            hint = nearest(name, [*_public(), *METRICS.names()])
            raise AttributeError(f"module 'pico_analyze.metrics' has no attribute {name!r}{hint}")
        return METRICS.get(name).function


def _public() -> list[str]:
    """The built-in metrics, and what goes with them. Found when asked for: it takes longer than a metric."""
    built_in = (point.name for point in entry_points(group=METRICS.group) if point.value.startswith("pico_analyze."))
    return sorted({*built_in, "Result", "activations"})


def __dir__() -> list[str]:
    return sorted({*_public(), *METRICS.names()})
