"""Single features of activations: neurons that are never active or nearly always, and entries that dwarf all others.

The neurons of a block are what `mlp.down` takes in (site `mlp.act`). Gated ones (SwiGLU) are hardly ever exactly zero,
so that active means more than a share of the root mean square; with threshold=0 it means anything but zero, as of ReLU.

Shapes: N samples (rows), P neurons (columns).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Literal

import numpy as np

from pico_analyze.matrices.distinct import n_distinct_samples
from pico_analyze.matrices.matrix import Matrix
from pico_analyze.metrics.resampling import Resampling
from pico_analyze.metrics.spec import MetricSpec, Result, single_metric
from pico_analyze.parameters import Param, ParamValue

_FEW = 100
"""Of fewer different samples a neuron that is active at one in a hundred may well not be seen to be."""
_SELDOM = "fewer than 100 different samples: neurons that are active now and then are taken for dead"


def _limit(matrix: Matrix, threshold: float, relative_to: str) -> float | str:
    """Largest magnitude of what is not active; or why there is none."""
    if relative_to == "none":
        return threshold
    if (reason := matrix.out_of_range(2)) is not None:
        return reason
    return threshold * matrix.frobenius() / math.sqrt(matrix.size)


def _activity(matrix: Matrix, limit: float) -> np.ndarray:
    """How many samples each neuron is active at, (P,)."""

    def count() -> np.ndarray:
        return np.concatenate([(np.abs(block) > limit).sum(axis=0) for block in matrix.blocks()])

    return matrix.memo(("activity", limit), count)


@single_metric
def dead_fraction(matrix: Matrix, *, threshold: float = 0.1, relative_to: Literal["rms", "none"] = "rms") -> Result:
    """Share of the neurons that are active at no sample: |a| ≤ threshold · scale at all of them.

    Args:
        matrix: (N, P) array or `Matrix` of activations: N samples of P neurons, taken as it is.
        threshold: Largest magnitude that counts as not active, in units of the scale; 0: nothing but zero.
        relative_to: The scale: the root mean square of all entries (rms), or 1 (none).

    Returns:
        0 to 1; 1 where no neuron is active (the zero matrix too). More samples can only lower it at a given limit. Of
        fewer than a hundred different samples it warns. Undefined (NaN) only where entries are not finite, or (rms)
        their squares are not. `extra`: dead (neurons), limit (in the units of the entries), distinct (samples).

    Raises:
        UsageError: a parameter that does not exist or a value that it does not take.
        DataError: not a matrix of real numbers.

    References:
        Voita, Ferrando and Nalmpantis 2023, Neurons in Large Language Models: Dead, N-gram, Positional, section 3
        (arXiv:2309.04827), of ReLU, where threshold=0 is their definition.
    """
    limit = _limit(matrix, threshold, relative_to)
    if isinstance(limit, str):
        return Result.undefined(limit)
    dead, distinct = int(np.count_nonzero(_activity(matrix, limit) == 0)), n_distinct_samples(matrix)
    extra = {"dead": float(dead), "limit": limit, "distinct": float(distinct)}
    return Result(dead / matrix.shape[1], extra=extra, warning=_SELDOM if dead and distinct < _FEW else None)


@single_metric
def dense_fraction(
    matrix: Matrix, *, threshold: float = 0.1, relative_to: Literal["rms", "none"] = "rms", share: float = 0.5
) -> Result:
    """Share of the neurons that are active at more than a share of the samples: |a| > threshold · scale.

    Args:
        matrix: (N, P) array or `Matrix` of activations: N samples of P neurons, taken as it is.
        threshold: Largest magnitude that counts as not active, in units of the scale; 0: nothing but zero.
        relative_to: The scale: the root mean square of all entries (rms), or 1 (none).
        share: A neuron is dense that is active at more than this share of the samples.

    Returns:
        0 to 1; 1 where every neuron is dense. Undefined (NaN) only where entries are not finite, or (rms) their squares
        are not. `extra`: active (the mean share of samples a neuron is active at), limit (in the units of the entries),
        distinct (samples).

    Raises:
        UsageError: a parameter that does not exist or a value that it does not take.
        DataError: not a matrix of real numbers.

    References:
        Li, You, Bhojanapalli and others 2023, The Lazy Neuron Phenomenon: On Emergence of Activation Sparsity in
        Transformers, ICLR, section 2 (arXiv:2210.06313): shares of samples that neurons are active at.
    """
    limit = _limit(matrix, threshold, relative_to)
    if isinstance(limit, str):
        return Result.undefined(limit)
    activity, n = _activity(matrix, limit), matrix.shape[0]
    extra = {"active": float(activity.mean()) / n, "limit": limit, "distinct": float(n_distinct_samples(matrix))}
    return Result(float(np.count_nonzero(activity > share * n)) / matrix.shape[1], extra=extra)


@single_metric
def massive_activations(matrix: Matrix, *, magnitude: float = 100.0, ratio: float = 1000.0) -> Result:
    """Massive activations of a sample, on average: entries with |a| > magnitude that are larger than ratio medians too.

    Args:
        matrix: (N, P) array or `Matrix` of activations: N samples of P features, taken as it is; in the reference those
            of the residual stream.
        magnitude: What |a| has to exceed.
        ratio: What |a| has to exceed in units of the median magnitude of all entries.

    Returns:
        0 to P; 0 where no entry dwarfs the others. Undefined (NaN) only where entries are not finite. `extra`: massive
        (entries), features and samples (that hold one), largest, median (magnitudes), distinct (samples).

    Raises:
        UsageError: a parameter that does not exist or a value that it does not take.
        DataError: not a matrix of real numbers.

    References:
        Sun, Chen, Kolter and Liu 2024, Massive Activations in Large Language Models, section 2 (arXiv:2402.17762).
    """
    magnitudes = matrix.memo("magnitudes", partial(_magnitudes, matrix))
    median = matrix.memo("median magnitude", lambda: float(np.median(magnitudes)))
    massive = (magnitudes > magnitude) & (magnitudes > ratio * median)
    extra = {
        "massive": float(massive.sum()),
        "features": float(massive.any(axis=0).sum()),
        "samples": float(massive.any(axis=1).sum()),
        "largest": float(magnitudes.max()),
        "median": median,
        "distinct": float(n_distinct_samples(matrix)),
    }
    return Result(extra["massive"] / matrix.shape[0], extra=extra)


def _magnitudes(matrix: Matrix) -> np.ndarray:
    return np.asarray(np.abs(matrix.dense()))


_THRESHOLD = {
    "threshold": Param(0.1, "largest magnitude that is not active, times the scale", low=0.0),
    "relative_to": Param("rms", "the scale: rms, or none (absolute)", choices=("rms", "none")),
}


def _by_a_largest_entry(_params: Mapping[str, ParamValue]) -> Resampling:
    return Resampling(refused="decided by the largest activation of each neuron")


DEAD_FRACTION = MetricSpec(
    name="dead_fraction",
    kind="single",
    fn=dead_fraction,
    definition=(
        "Share of the neurons (columns) whose activation is at most threshold times the root mean square at every "
        "sample. Neurons are site mlp.act; threshold=0 is for ReLU, whose dead neurons are exactly zero."
    ),
    formula=r"\frac{1}{P} \, \#\{\, j : |x_{ij}| \le \theta\,\mathrm{rms}(X) \text{ for all } i \,\}",
    range="0 to 1",
    best="0: every neuron is active somewhere; 1: none is",
    cost="one pass over all entries",
    reference=(
        "Voita et al. 2023, Neurons in Large Language Models: Dead, N-gram, Positional, section 3 (arXiv:2309.04827)"
    ),
    accepts=frozenset({"activations"}),
    params=_THRESHOLD,
    resampling=_by_a_largest_entry,
    bounds=(0.0, 1.0),
)

DENSE_FRACTION = MetricSpec(
    name="dense_fraction",
    kind="single",
    fn=dense_fraction,
    definition=(
        "Share of the neurons (columns) that are active, by more than threshold times the root mean square, at more "
        "than a share of the samples. Neurons are site mlp.act."
    ),
    formula=(
        r"\frac{1}{P} \, \#\{\, j : \#\{\, i : |x_{ij}| > \theta\,\mathrm{rms}(X) \,\} > \mathrm{share} \cdot N \,\}"
    ),
    range="0 to 1",
    best="0: all neurons are sparse; 1: every neuron is active at most samples",
    cost="one pass over all entries",
    reference="Li et al. 2023, The Lazy Neuron Phenomenon, ICLR, section 2 (arXiv:2210.06313)",
    accepts=frozenset({"activations"}),
    params=_THRESHOLD | {"share": Param(0.5, "samples that a dense neuron is active at, more than", low=0.0, high=1.0)},
    bounds=(0.0, 1.0),
)

MASSIVE_ACTIVATIONS = MetricSpec(
    name="massive_activations",
    kind="single",
    fn=massive_activations,
    definition=(
        "Entries of a sample, on average, whose magnitude is above 100 and above 1000 times the median magnitude of "
        "all. How many features and samples hold one stands beside it. In the reference of the residual stream (resid)."
    ),
    formula=r"\frac{1}{N} \, \#\{\, (i, j) : |x_{ij}| > 100,\ |x_{ij}| > 1000 \cdot \mathrm{median}\,|X| \,\}",
    range="0 to P",
    best="0: no entry dwarfs the others",
    cost="one pass and a median of all entries",
    reference="Sun et al. 2024, Massive Activations in Large Language Models, section 2 (arXiv:2402.17762)",
    accepts=frozenset({"activations"}),
    params={
        "magnitude": Param(100.0, "what the magnitude has to exceed", low=0.0),
        "ratio": Param(1000.0, "what it has to exceed in units of the median magnitude", low=0.0),
    },
)
