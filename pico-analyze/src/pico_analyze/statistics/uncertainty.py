"""How sure a value is, and what it would be by chance: resampling of samples, and null distributions.

Both call a metric again on changed matrices and are seeded: the same seed draws the same rows for every matrix of a
study, so that differences between layers or steps are not differences between draws.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from pico_analyze.errors import UsageError
from pico_analyze.matrices.matrix import Dense, Matrix
from pico_analyze.metrics.spec import MetricSpec

NullKind = Literal["permutation", "random_init"]


def bootstrap(
    metric: MetricSpec,
    matrices: Sequence[Matrix],
    params: Mapping[str, object] | None = None,
    n_resamples: int = 200,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, float]:
    """Interval for a metric over the samples (rows) that its matrices have in common.

    Each resample is half of the samples, drawn without replacement. Its deviation from the mean of all resamples is
    distributed, for averages over samples exactly and for smooth functions of them asymptotically, as the value's own
    error (Politis, Romano & Wolf 1999, Subsampling, section 2; McCarthy 1969), so the interval is the value plus the
    quantiles of these deviations. Drawing with replacement, as for a mean, would repeat samples: a repeated sample is
    its own nearest neighbour and biases similarities upward.

    Args:
        metric: A single metric with one matrix, or a pair metric with two.
        matrices: Activations, (N, P) each, rows in the same order.
        params: Parameters of the metric.
        n_resamples: How many resamples.
        seed: The draws depend on this and N alone.
        level: Coverage that the interval aims for.

    Returns:
        ci_low, ci_high, bootstrap_sd and bootstrap_n (resamples with a value). NaN where fewer than two have one.

    Raises:
        UsageError: the rows are not samples (weights, gradients), or n_resamples < 2, or no level between 0 and 1.
    """
    if not all(matrix.samples for matrix in matrices):
        raise UsageError(
            "a bootstrap resamples samples, which only activations have: leave --bootstrap out for other data"
        )
    if n_resamples < 2:
        raise UsageError(f"a bootstrap of {n_resamples} resamples has no spread: ask for at least 2, better 200")
    if not 0 < level < 1:
        raise UsageError(
            f"a bootstrap interval of level {level} does not exist: choose one between 0 and 1, such as 0.95"
        )
    chosen = dict(params or {})
    value = _value(metric, matrices, chosen)
    n = matrices[0].shape[0]
    rng = np.random.default_rng([seed, n])
    draws = []
    for _ in range(n_resamples):
        rows = np.sort(rng.permutation(n)[: n // 2])
        draws.append(_value(metric, [matrix.take(rows) for matrix in matrices], chosen))
    finite = np.array([draw for draw in draws if math.isfinite(draw)])
    count = {"bootstrap_n": float(len(finite))}
    if len(finite) < 2 or not math.isfinite(value):
        return {"ci_low": math.nan, "ci_high": math.nan, "bootstrap_sd": math.nan, **count}
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(finite - finite.mean(), [tail, 1.0 - tail])
    return {
        "ci_low": value + float(low),
        "ci_high": value + float(high),
        "bootstrap_sd": float(finite.std(ddof=1)),
        **count,
    }


def null(
    metric: MetricSpec,
    matrices: Sequence[Matrix],
    params: Mapping[str, object] | None = None,
    kind: NullKind = "permutation",
    n_draws: int = 100,
    seed: int = 0,
) -> dict[str, float]:
    """What the value would be by chance.

    `permutation` breaks what is compared: for a pair, the rows of the second matrix are shuffled, so that samples no
    longer correspond; for one matrix, all its entries are shuffled, which keeps their distribution but no structure
    (metrics of that distribution, such as gini, then do not move). `random_init` replaces what is measured by noise of
    the same shape and size: each stored array of the (second) matrix is drawn anew from a normal law with its own mean
    square, circuit factors before they are multiplied. What a randomly initialised model would have, with the
    structure of its architecture but nothing learned.

    Returns:
        null_mean, null_q05, null_q95, null_n (draws with a value) and null_p: the share of draws, the value itself
        counted as one, at least as extreme (Phipson & Smyth 2010, equation 2): as similar for a comparison, two-sided
        otherwise. NaN where there is no value.
    """
    if n_draws < 1:
        raise UsageError(f"a null distribution of {n_draws} draws says nothing: ask for at least 1, better 100")
    chosen = dict(params or {})
    value = _value(metric, matrices, chosen)
    last = matrices[-1]
    rng = np.random.default_rng([seed, *last.shape])
    draws = []
    for _ in range(n_draws):
        changed = last.randomised(rng) if kind == "random_init" else _shuffled(last, metric.kind, rng)
        draws.append(_value(metric, [*matrices[:-1], changed], chosen))
    known = np.array([draw for draw in draws if not math.isnan(draw)])
    if not len(known) or math.isnan(value):
        nan = math.nan
        return {
            "null_mean": nan,
            "null_q05": nan,
            "null_q95": nan,
            "null_p": nan,
            "null_n": float(len(known)),
        }
    low, high = np.quantile(known, [0.05, 0.95])
    return {
        "null_mean": float(known.mean()),
        "null_q05": float(low),
        "null_q95": float(high),
        "null_p": _p_value(value, known, metric.similar),
        "null_n": float(len(known)),
    }


def _value(metric: MetricSpec, matrices: Sequence[Matrix], params: Mapping[str, object]) -> float:
    return metric(*matrices, **params).value


def _shuffled(matrix: Matrix, kind: str, rng: np.random.Generator) -> Matrix:
    if kind == "pair":
        return matrix.take(rng.permutation(matrix.shape[0]))
    entries = matrix.dense().ravel()
    return Dense(rng.permutation(entries).reshape(matrix.shape), samples=matrix.samples, stored=matrix.stored)


def _p_value(value: float, draws: np.ndarray, similar: Literal["high", "low"] | None) -> float:
    # Rounding must not decide: a metric that shuffling cannot change gives the same number up to its last digits.
    slack = 1e-12 * max(1.0, abs(value))
    above = (1 + np.count_nonzero(draws >= value - slack)) / (1 + len(draws))
    below = (1 + np.count_nonzero(draws <= value + slack)) / (1 + len(draws))
    if similar is None:
        return float(min(1.0, 2.0 * min(above, below)))
    return float(above if similar == "high" else below)
