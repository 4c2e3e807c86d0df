"""The interval of linear CKA at d 384, 1,600 samples of 200 rows, 200 resamples: at once, against one by one.

python benchmarks/bench_interval.py
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from workload import timed

from pico_analyze.matrices.matrix import Dense
from pico_analyze.metrics.resampling import as_a_correlation
from pico_analyze.metrics.spec import METRICS
from pico_analyze.statistics.uncertainty import bootstrap

ROWS, POSITIONS, WIDTH, RESAMPLES = 200, 8, 384, 200


def main() -> None:
    """Measure and print."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((ROWS * POSITIONS, WIDTH), dtype=np.float32)
    y = x + rng.standard_normal(x.shape, dtype=np.float32)
    cka = METRICS.get("cka")
    ends: list[tuple[object, object]] = []
    for words, spec in (("at once", cka), ("one by one", replace(cka, resampling=as_a_correlation))):

        def interval(spec: object = spec) -> None:
            pair = (Dense(x, samples=True), Dense(y, samples=True))
            found = bootstrap(spec, pair, {"debiased": True}, RESAMPLES, positions=POSITIONS)  # type: ignore[arg-type]
            ends.append((found["ci_low"], found["ci_high"]))

        seconds, cpu = timed(interval)
        print(f"{words}: {seconds:.2f} s ({cpu:.2f} s of CPU), interval {ends[-1][0]:.6f} to {ends[-1][1]:.6f}")


if __name__ == "__main__":
    main()
