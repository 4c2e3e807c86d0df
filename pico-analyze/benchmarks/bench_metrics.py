"""Every metric on one circuit of each kind: milliseconds of CPU for a head and for the whole, nothing computed before.

python benchmarks/bench_metrics.py 384
"""

from __future__ import annotations

import argparse

from workload import Tensors, model, timed

from pico_analyze.components.spec import COMPONENTS
from pico_analyze.matrices.matrix import Matrix
from pico_analyze.metrics.spec import METRICS, MetricSpec


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("d_model", type=int)
    spec = model(parser.parse_args().d_model)
    component = COMPONENTS.get("ov_circuit")
    first, second = Tensors(spec, 1), Tensors(spec, 2)

    def fresh(tensors: Tensors, data: str, head: int | None) -> Matrix:
        unit = component.units(spec, data, [])[0]
        built = component.build(tensors.read, spec, data, unit)
        return next(labelled.matrix for labelled in built if labelled.head == head)

    print(f"d_model {spec.d_model}, one layer, milliseconds of CPU (head, whole)")
    for metric in METRICS.each():
        if not isinstance(metric, MetricSpec):
            raise SystemExit(str(metric))
        data = "activations" if "weights" not in metric.accepts and "activations" in metric.accepts else "gradients"
        spent = []
        for head in (0, None):

            def work(metric: MetricSpec = metric, data: str = data, head: int | None = head) -> None:
                x = fresh(first, data, head)
                metric(*((x,) if metric.kind == "single" else (x, fresh(second, data, head))))

            work()  # draws the tensors
            spent.append(1000 * timed(work, repeats=2)[1])
        print(f"  {metric.name:20s} {data:12s} {spent[0]:9.1f} {spent[1]:9.1f}", flush=True)


if __name__ == "__main__":
    main()
