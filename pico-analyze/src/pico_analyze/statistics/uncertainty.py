"""How sure a value is, and what it would be by chance: resampling of rows, and null distributions.

The sample is a row of tokens. Positions of one row depend on each other, so what is drawn are whole rows, all positions
of each. Both call a metric again on changed matrices and are seeded: the same seed draws the same rows for every matrix
of a study, so that differences between layers or steps are not differences between draws.

Shapes: N samples of R rows, D draws.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from pico_analyze.counting import counted
from pico_analyze.errors import UsageError
from pico_analyze.matrices.matrix import Dense, Matrix
from pico_analyze.metrics.resampling import Resampling
from pico_analyze.metrics.spec import MetricSpec

NullKind = Literal["permutation", "random_init"]

_GROUPS = 4
"""A resample leaves one of so many groups of rows out."""
_CORRECTED = 0.5
"""An interval reaches from the value corrected for all of its bias to that corrected for this share of it: what is
estimated of the bias errs too. With all of it alone, intervals of debiased CKA cover 88 % at 32 rows of correlation
0.9; without any, those of the effective rank 86 % (docs/uncertainty.md)."""


def bootstrap(
    metric: MetricSpec,
    matrices: Sequence[Matrix],
    params: Mapping[str, object] | None = None,
    n_resamples: int = 200,
    seed: int = 0,
    level: float = 0.95,
    positions: int = 1,
) -> dict[str, float | str]:
    """Interval for the value that a metric would have on endlessly many rows like these.

    Each resample leaves a quarter of the rows out, all samples of each: the rows are cut at random into four groups,
    every group is left out in turn, and then they are cut anew. The deviations of the resamples from the value, scaled
    by their sizes, give its standard error and its bias (the jackknife that deletes groups). The interval is ± t
    standard errors with R − 1 degrees of freedom, around the value corrected for its bias; as what is estimated of the
    bias errs too, it begins at the value corrected for half of it. Correlations have it on Fisher's scale. Rows are not
    drawn with replacement, as for a mean: a row drawn twice is its own nearest neighbour and raises similarities.

    Args:
        metric: A single metric with one matrix, or a pair metric with two.
        matrices: Activations, (N, P) each, samples in the same order.
        params: Parameters of the metric.
        n_resamples: How many resamples; best a multiple of four.
        seed: The draws depend on this and R alone.
        level: Coverage that the interval aims for.
        positions: Samples of each row: the first so many are the first row's, and so on.

    Returns:
        ci_low, ci_high, bootstrap_sd (the standard error), bootstrap_bias, bootstrap_rows (R) and bootstrap_n
        (resamples with a value). NaN, with ci_reason, for a single row, where the value is undefined, and where fewer
        than half of the resamples have one.

    Raises:
        UsageError: the rows are not samples (weights, gradients), or the value is a largest entry, of which resamples
            tell nothing, or n_resamples < 2, or no level between 0 and 1, or N is no multiple of `positions`.

    References:
        Shao and Tu 1995, The Jackknife and Bootstrap, sections 2.2.2 (groups) and 2.3 (leaving out more than one);
        Quenouille 1956, Notes on Bias in Estimation, Biometrika 43; rows as clusters: Cameron and Miller 2015, A
        Practitioner's Guide to Cluster-Robust Inference, J. Human Resources 50, sections II and VI; a maximum: Bickel
        and Freedman 1981, Some Asymptotic Theory for the Bootstrap, Ann. Statist. 9, section 6.
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
    resampling = check_resampled(metric, chosen)
    n_rows = _n_rows(matrices[-1], positions)
    value = _value(metric, matrices, chosen)
    facts: dict[str, float | str] = {"bootstrap_rows": float(n_rows), "bootstrap_n": 0.0}
    if not math.isfinite(value):
        return _no_interval("there is no value", facts)
    if n_rows < 2:
        return _no_interval("all samples are of one row, and rows are what varies: capture more of them", facts)
    kept_DR = _kept(n_rows, n_resamples, np.random.default_rng([seed, n_rows]))
    draws = _draws(metric, matrices, chosen, resampling, kept_DR)
    known = np.isfinite(draws)
    facts["bootstrap_n"] = float(np.count_nonzero(known))
    if np.count_nonzero(known) < max(2, n_resamples / 2):
        return _no_interval(
            f"{counted(int(facts['bootstrap_n']), 'resample')} of {n_resamples}, of three quarters of the rows, have a "
            "value: there are too few rows",
            facts,
        )
    kept = kept_DR[known].sum(axis=1)
    return {**_interval(value, draws[known], kept / (n_rows - kept), n_rows, level, resampling.correlation), **facts}


def _interval(
    value: float, draws: np.ndarray, share: np.ndarray, n_rows: int, level: float, correlation: bool
) -> dict[str, float]:
    """Interval, standard error and bias, from values on parts of the rows; `share`: rows kept over rows left out."""
    # At ±1 the scale of correlations ends; whatever comes so near is there up to rounding.
    on_scale = correlation and max(abs(value), float(np.abs(draws).max())) < 1 - 1e-9
    centre, deviations = (math.atanh(value), np.arctanh(draws)) if on_scale else (value, draws)
    deviations = deviations - centre
    bias = float((deviations * share).mean())
    reach = _t_quantile(n_rows - 1, 0.5 + level / 2) * _spread(deviations, share)
    ends = [centre - _CORRECTED * bias, centre - bias]
    low, high = min(ends) - reach, max(ends) + reach
    plain = draws - value
    return {
        "ci_low": math.tanh(low) if on_scale else low,
        "ci_high": math.tanh(high) if on_scale else high,
        "bootstrap_sd": _spread(plain, share),
        "bootstrap_bias": float((plain * share).mean()),
    }


def _spread(deviations: np.ndarray, share: np.ndarray) -> float:
    """Standard error of a value, from the deviations of its parts."""
    return float((deviations * np.sqrt(share)).std(ddof=1))


def check_resampled(metric: MetricSpec, params: Mapping[str, object]) -> Resampling:
    """What becomes of the value on a part of the rows.

    Raises:
        UsageError: resamples tell nothing of its error.
    """
    resampling = metric.resampling(metric.resolve(params))
    if resampling.refused is not None:
        raise UsageError(
            f"metric {metric.name!r} is here {resampling.refused}, of whose error resamples tell nothing: leave "
            "--bootstrap out for it"
        )
    return resampling


def _t_quantile(freedom: int, probability: float) -> float:
    from scipy.special import stdtrit  # imported when it is needed: other commands start without it

    return float(stdtrit(freedom, probability))


def _n_rows(matrix: Matrix, positions: int) -> int:
    n_rows, rest = divmod(matrix.shape[0], max(positions, 1))
    if positions < 1 or rest:
        raise UsageError(f"{matrix.shape[0]} samples are not of rows with {counted(positions, 'position')} each")
    return n_rows


def _kept(n_rows: int, n_resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Which rows each resample keeps, (D, R): one random cut of the rows into groups after the other."""
    n_groups = min(_GROUPS, n_rows)
    kept = np.ones((n_resamples, n_rows), dtype=bool)
    for resample in range(n_resamples):
        if resample % n_groups == 0:
            order = rng.permutation(n_rows)
        kept[resample, order[resample % n_groups :: n_groups]] = False
    return kept


def _draws(
    metric: MetricSpec,
    matrices: Sequence[Matrix],
    params: dict[str, object],
    resampling: Resampling,
    kept_DR: np.ndarray,
) -> np.ndarray:
    """The metric's value on the rows that each resample keeps, (D,), as of all rows."""
    if resampling.together is not None:
        return resampling.together(matrices[0], matrices[1], kept_DR)
    n_rows, resolved = kept_DR.shape[1], metric.resolve(params)
    draws = []
    for kept in kept_DR:
        samples = np.flatnonzero(np.repeat(kept, matrices[0].shape[0] // n_rows))
        share = np.count_nonzero(kept) / n_rows
        counts = {name: max(1, round(float(resolved[name]) * share)) for name in resampling.counts}
        value = _value(metric, [matrix.take(samples) for matrix in matrices], params | counts)
        draws.append(value / share**resampling.grows)
    return np.array(draws)


def _no_interval(reason: str, facts: Mapping[str, float | str]) -> dict[str, float | str]:
    nan = math.nan
    return {"ci_low": nan, "ci_high": nan, "bootstrap_sd": nan, "bootstrap_bias": nan, **facts, "ci_reason": reason}


def null(
    metric: MetricSpec,
    matrices: Sequence[Matrix],
    params: Mapping[str, object] | None = None,
    kind: NullKind = "permutation",
    n_draws: int = 100,
    seed: int = 0,
    positions: int = 1,
) -> dict[str, float | str]:
    """What the value would be by chance.

    `permutation` breaks what is compared: for a pair, the rows of the second matrix are shuffled, all positions of each
    together, so that rows no longer correspond; positions still do. For one matrix, all its entries are shuffled, which
    keeps their distribution but no structure (metrics of that distribution, such as gini, then do not move).
    `random_init` replaces what is measured by noise of the same shape and size: each stored array of the (second)
    matrix is drawn anew from a normal law with its own mean square, circuit factors before they are multiplied. What a
    randomly initialised model would have, with the structure of its architecture but nothing learned.

    Args:
        metric: A single metric with one matrix, or a pair metric with two.
        matrices: What it measures.
        params: Parameters of the metric.
        kind: permutation or random_init.
        n_draws: How many draws.
        seed: Of the draws.
        positions: Samples of each row, as for `bootstrap`.

    Returns:
        null_mean, null_q05, null_q95, null_n (draws with a value) and null_p: the share of draws, the value itself
        counted as one, at least as extreme (Phipson & Smyth 2010, equation 2): as similar for a comparison, two-sided
        otherwise. NaN, with null_reason, where there is no value, and for permutations of a single row.
    """
    if n_draws < 1:
        raise UsageError(f"a null distribution of {n_draws} draws says nothing: ask for at least 1, better 100")
    chosen = dict(params or {})
    last = matrices[-1]
    whole_rows = kind == "permutation" and metric.kind == "pair"
    n_rows = _n_rows(last, positions) if whole_rows else 0
    value = _value(metric, matrices, chosen)
    if math.isnan(value):
        return _no_chance("there is no value", 0)
    if n_rows == 1:
        return _no_chance("all samples are of one row, which has no other order: capture more rows", 0)
    rng = np.random.default_rng([seed, *last.shape])
    draws = []
    for _ in range(n_draws):
        if kind == "random_init":
            changed = last.randomised(rng)
        elif whole_rows:
            samples = np.arange(last.shape[0]).reshape(n_rows, -1)
            changed = last.take(samples[rng.permutation(n_rows)].ravel())
        else:
            changed = _shuffled_entries(last, rng)
        draws.append(_value(metric, [*matrices[:-1], changed], chosen))
    known = np.array([draw for draw in draws if not math.isnan(draw)])
    if not len(known):
        return _no_chance("no draw has a value", 0)
    low, high = np.quantile(known, [0.05, 0.95])
    return {
        "null_mean": float(known.mean()),
        "null_q05": float(low),
        "null_q95": float(high),
        "null_p": _p_value(value, known, metric.similar),
        "null_n": float(len(known)),
    }


def _no_chance(reason: str, n: int) -> dict[str, float | str]:
    nan = math.nan
    return {
        "null_mean": nan,
        "null_q05": nan,
        "null_q95": nan,
        "null_p": nan,
        "null_n": float(n),
        "null_reason": reason,
    }


def _value(metric: MetricSpec, matrices: Sequence[Matrix], params: Mapping[str, object]) -> float:
    return metric(*matrices, **params).value


def _shuffled_entries(matrix: Matrix, rng: np.random.Generator) -> Matrix:
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
