"""CKA of OV activations, all layers, 12 heads and the whole: factored, against the direct computation.

python benchmarks/bench_cka.py 384 --direct
python benchmarks/bench_cka.py 1536
"""

from __future__ import annotations

import argparse

import numpy as np
from workload import Tensors, direct_linear_cka, model, peak_gigabytes, timed

from pico_analyze.components.spec import COMPONENTS
from pico_analyze.matrices.matrix import Matrix
from pico_analyze.metrics.spec import METRICS


def matrices(tensors: Tensors) -> list[Matrix]:
    """OV activations of every layer: the whole, then each head."""
    component = COMPONENTS.get("ov_circuit")
    return [
        labelled.matrix
        for unit in component.units(tensors.spec, "activations", [])
        for labelled in component.build(tensors.read, tensors.spec, "activations", unit)
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("d_model", type=int)
    parser.add_argument("--direct", action="store_true", help="also compute it directly in feature space, same run")
    arguments = parser.parse_args()
    spec = model(arguments.d_model)
    first, second = Tensors(spec, 1), Tensors(spec, 2)
    matrices(first), matrices(second)  # draws the tensors
    cka = METRICS.get("cka")
    values: list[float] = []

    def factored() -> None:
        values[:] = [cka(x, y).value for x, y in zip(matrices(first), matrices(second), strict=True)]

    seconds, cpu = timed(factored, repeats=3)
    print(
        f"d_model {spec.d_model}: {len(values)} values in {seconds:.3f} s ({cpu:.3f} s of CPU), "
        f"peak {peak_gigabytes():.2f} GB"
    )
    if arguments.direct:
        direct: list[float] = []

        def in_feature_space() -> None:
            for x, y in zip(matrices(first), matrices(second), strict=True):
                direct.append(direct_linear_cka(x.dense(), y.dense()))

        slow, slow_cpu = timed(in_feature_space)
        error = np.max(np.abs(np.array(direct) / np.array(values) - 1))
        print(f"direct, float32: {slow:.2f} s ({slow_cpu:.2f} s of CPU); largest difference {error:.1e}")
        print(f"factored is {slow / seconds:.0f} times as fast, {slow_cpu / cpu:.0f} times by CPU seconds")


if __name__ == "__main__":
    main()
