"""How often 95 % intervals hold the true value, and how often chance passes for a relation, by simulation.

python benchmarks/bench_coverage.py            # the table of docs/uncertainty.md: about 20 minutes of CPU
python benchmarks/bench_coverage.py --simulated 50

Activations are those of tests/correlated_rows.py: eight positions a row, of which two have the correlation ρ.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pico_analyze.matrices.matrix import Dense
from pico_analyze.metrics.spec import METRICS, MetricSpec
from pico_analyze.statistics.uncertainty import bootstrap, null

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from correlated_rows import POSITIONS, comparable, unrelated

CASES: tuple[tuple[str, dict[str, object]], ...] = (
    ("cka", {"debiased": True}),
    ("cka", {}),
    ("effective_rank", {}),
    ("rsa", {}),
    ("norm", {"kind": "spectral"}),
)
CORRELATIONS = (0.0, 0.5, 0.9)


def inputs(spec: MetricSpec, matrices: tuple[Dense, Dense]) -> tuple[Dense, ...]:
    """What a metric takes of a pair of matrices."""
    return matrices if spec.kind == "pair" else matrices[:1]


def truth(spec: MetricSpec, params: Mapping[str, object], correlation: float, n_rows: int) -> float:
    """What the value is on endlessly many rows; a norm that grows with the rows, on so many."""
    many = 1_000 if spec.name == "rsa" else 40_000
    pairs = (comparable(many, correlation, np.random.default_rng(seed), positions=1) for seed in range(8))
    value = float(np.mean([spec(*inputs(spec, pair), **params) for pair in pairs]))
    grows = spec.resampling(spec.resolve(params)).grows
    return value * (n_rows * POSITIONS / many) ** grows


def coverage(
    spec: MetricSpec, params: Mapping[str, object], correlation: float, n_rows: int, n_simulated: int, positions: int
) -> float:
    """Share of intervals that hold the true value."""
    true, rng, held = truth(spec, params, correlation, n_rows), np.random.default_rng(1), 0
    for _ in range(n_simulated):
        matrices = inputs(spec, comparable(n_rows, correlation, rng))
        found = bootstrap(spec, matrices, params, n_resamples=60, positions=positions)
        held += float(found["ci_low"]) <= true <= float(found["ci_high"])
    return held / n_simulated


def false_positives(
    spec: MetricSpec, params: Mapping[str, object], correlation: float, n_rows: int, n_simulated: int, positions: int
) -> float:
    """Share of unrelated pairs with p ≤ 0.05."""
    rng, called = np.random.default_rng(2), 0
    for seed in range(n_simulated):
        pair = unrelated(n_rows, correlation, rng)
        called += float(null(spec, pair, params, n_draws=39, seed=seed, positions=positions)["null_p"]) <= 0.05
    return called / n_simulated


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulated", type=int, default=400)
    arguments = parser.parse_args()
    for name, params in CASES:
        spec, n = METRICS.get(name), arguments.simulated
        n = n // 4 if name == "rsa" else n
        words = " ".join([name, *(f"{key}={value}" for key, value in params.items())])
        for n_rows in (16, 32, 100) if name != "rsa" else (16, 32):
            shares = [coverage(spec, params, rho, n_rows, n, POSITIONS) for rho in CORRELATIONS]
            wrong = [coverage(spec, params, rho, n_rows, n // 4, 1) for rho in CORRELATIONS]
            print(f"| {words} | {n_rows} | {_percent(shares)} | {_percent(wrong)} |", flush=True)
        if spec.kind == "pair":
            shares = [false_positives(spec, params, rho, 16, n, POSITIONS) for rho in CORRELATIONS]
            wrong = [false_positives(spec, params, rho, 16, n // 4, 1) for rho in CORRELATIONS]
            print(f"| {words}: p <= 0.05 | 16 | {_percent(shares)} | {_percent(wrong)} |", flush=True)


def _percent(shares: list[float]) -> str:
    return ", ".join(f"{100 * share:.1f}" for share in shares)


if __name__ == "__main__":
    main()
