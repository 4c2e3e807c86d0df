"""The OV study in memory: cka of activations; per, condition_number, gini, norm of weights and gradients.

    python benchmarks/bench_study.py 384 --steps 11
    python benchmarks/bench_study.py 1536

Computation alone, on tensors in memory; reading, the table and the start of the program come on top (bench_cli.py).
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict

from workload import Tensors, model, peak_gigabytes

from pico_analyze.components.spec import COMPONENTS
from pico_analyze.metrics.spec import METRICS

SINGLES = ("per", "condition_number", "gini", "norm")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("d_model", type=int)
    parser.add_argument("--steps", type=int, default=1)
    arguments = parser.parse_args()
    spec = model(arguments.d_model)
    component = COMPONENTS.get("ov_circuit")
    singles, cka = [METRICS.get(name) for name in SINGLES], METRICS.get("cka")
    spent: dict[str, float] = defaultdict(float)
    n_rows = 0
    drawn = 0.0
    begin = time.perf_counter()
    target = Tensors(spec, 0)
    kept = {
        unit: list(component.build(target.read, spec, "activations", unit))
        for unit in component.units(spec, "activations", [])
    }
    for step in range(arguments.steps):
        tensors = Tensors(spec, step + 1)
        for unit in component.units(spec, "weights", []):
            start = time.perf_counter()
            for data in ("weights", "gradients", "activations"):
                for source, site in component.needs(data, unit):
                    tensors.read(source, site)
            drawn += time.perf_counter() - start
            for data in ("weights", "gradients"):
                for labelled in component.build(tensors.read, spec, data, unit):
                    for metric in singles:
                        start = time.perf_counter()
                        metric(labelled.matrix)
                        size = "whole" if labelled.head is None else "heads"
                        spent[f"{data} {size} {metric.name}"] += time.perf_counter() - start
                        n_rows += 1
            activations = component.build(tensors.read, spec, "activations", unit)
            for labelled, goal in zip(activations, kept[unit], strict=True):
                start = time.perf_counter()
                cka(labelled.matrix, goal.matrix)
                spent["activations cka"] += time.perf_counter() - start
                n_rows += 1
            tensors.kept.clear()
    total = time.perf_counter() - begin - drawn
    for name, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        print(f"  {seconds:7.2f} s  {name}")
    print(
        f"d_model {spec.d_model}, {arguments.steps} step(s), {n_rows} values: {total:.1f} s of compute, "
        f"peak {peak_gigabytes():.2f} GB"
    )


if __name__ == "__main__":
    main()
