"""Metrics of entries: two of them by hand, all sizes and kinds, sorted in parts or at once, and equal entries."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pico_analyze.matrices.factored import Concatenated, Factored
from pico_analyze.matrices.matrix import Dense
from pico_analyze.metrics import sparsity
from pico_analyze.metrics.norms import norm
from pico_analyze.metrics.sparsity import gini, hoyer, kurtosis, near_zero_fraction

RNG = np.random.default_rng(61)


def textbook_gini(values):
    """Mean absolute difference of two entries over twice the mean."""
    ordered, n = np.sort(np.abs(values.astype(np.float64).ravel())), values.size
    return float(np.sum((2 * np.arange(1, n + 1) - n - 1) * ordered)) / (n * ordered.sum())


def test_two_entries_are_enough_and_one_is_not():
    two = [[3.0, -1.0]]
    assert gini(two) == pytest.approx(0.25, rel=1e-14)
    assert gini(two, corrected=True) == pytest.approx(0.5, rel=1e-14)
    assert hoyer(two) == pytest.approx((math.sqrt(2) - 4 / math.sqrt(10)) / (math.sqrt(2) - 1), rel=1e-14)
    for metric, params in ((gini, {"corrected": True}), (hoyer, {})):
        assert metric([[3.0]]).reason == metric([[0.0]]).reason == "one entry has no distribution"
        assert metric([[0.0, 0.0]]).reason == "all entries are zero"
        for alone in ([[0.0, -2.0]], [[1.0, 0.0]], [[0.0], [1e-300]], [[0.0, 0.0, 7.0]]):
            assert metric(alone, **params) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("scale", [1e-200, 1e-3, 0.9, 7.0, 1e200])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_the_unit_of_the_entries_changes_nothing(scale, sign):
    values = np.array([[1.0, -2.0, 4.0], [0.5, 0.001, 3.0]])
    for metric in (gini, hoyer, kurtosis):
        assert metric(values * scale * sign) == pytest.approx(metric(values), rel=1e-12)
    absolute = np.abs(values)
    expected = (math.sqrt(6) - absolute.sum() / np.linalg.norm(values)) / (math.sqrt(6) - 1)
    assert hoyer(values * scale * sign) == pytest.approx(expected, rel=1e-12)
    shares = near_zero_fraction(values * scale * sign, relative_to="max", threshold=0.25)
    assert shares == 0.5 and shares.extra == {"limit": pytest.approx(scale, abs=0)}
    assert norm(values * scale * sign, kind="max_abs") == pytest.approx(4 * scale, rel=1e-15, abs=0)


@pytest.mark.parametrize("n", [2**16 - 1, 2**16, 2**16 + 1, 2**17, 2**17 + 3])
def test_the_sum_over_chunks_is_the_sum_over_all(n):
    values = RNG.standard_normal((1, n))
    assert gini(values) == pytest.approx(textbook_gini(values), rel=1e-11)


@pytest.mark.parametrize("merging", [False, True, "as this processor does"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_heads_sorted_one_by_one_and_merged_are_all_entries_sorted(monkeypatch, merging, dtype):
    if isinstance(merging, bool):
        monkeypatch.setattr(sparsity, "_merging_is_faster", lambda: merging)

    def head(p):
        return Factored(RNG.standard_normal((30, 2)).astype(dtype), RNG.standard_normal((p, 2)).astype(dtype))

    heads = Concatenated([head(7), head(1), head(12)])
    expected = textbook_gini(heads.dense())
    assert gini(heads) == gini(heads) == pytest.approx(expected, rel=1e-12)
    for one in (*heads.parts, Dense(heads.dense()), Dense(np.asfortranarray(heads.dense()))):
        assert gini(one) == pytest.approx(textbook_gini(one.dense()), rel=1e-12)
    assert gini(Concatenated(heads.parts)) == pytest.approx(expected, rel=1e-12)


def test_what_is_as_large_as_the_limit_is_near_zero():
    values = [[0.0, 1.0, -1.0, 2.0], [3.0, -4.0, 5.0, 2.0]]
    for threshold, share in ((0.0, 1), (0.999, 1), (1.0, 3), (2.0, 5), (4.999, 7), (5.0, 8)):
        result = near_zero_fraction(values, threshold=threshold, relative_to="none")
        assert result == share / 8 and result.extra == {"limit": threshold}
    rms = math.sqrt(60 / 8)
    assert near_zero_fraction(values, threshold=0.5).extra == {"limit": pytest.approx(rms / 2, rel=1e-14)}
    assert near_zero_fraction(values, threshold=0.5) == 3 / 8
    relative = near_zero_fraction(values, threshold=0.4, relative_to="max")
    assert relative == 5 / 8 and relative.extra == {"limit": 2.0}


def test_the_largest_magnitude_may_be_that_of_a_negative_entry():
    negative = near_zero_fraction([[-8.0, 1.0, 4.0]], threshold=0.5, relative_to="max")
    assert negative == 2 / 3 and negative.extra == {"limit": 4.0}
    assert hoyer([[-2.0, 0.0, 0.0]]) == pytest.approx(1.0) and norm([[-8.0, 1.0]], kind="max_abs") == 8.0
    assert near_zero_fraction([[-8.0, -1.0]], threshold=1.0, relative_to="max").extra == {"limit": 8.0}


@pytest.mark.parametrize("mean", [0.1, 1.0, -3.0, 1e6])
def test_entries_that_differ_by_rounding_alone_are_equal(mean):
    assert kurtosis(np.full((3, 4), mean)).reason == "all entries are equal"
    assert kurtosis(np.full((3, 1), 0.0)).reason == "all entries are equal"
    nearly = np.full((1, 2), mean)
    nearly[0, 1] = np.nextafter(mean, 2 * mean)
    assert kurtosis(nearly).reason == "all entries are equal"
    for apart, differ in ((1.5e-14, False), (4e-14, True)):
        values = np.array([[mean, mean * (1 + apart)]])
        assert math.isfinite(kurtosis(values)) == differ
    assert kurtosis(values) == pytest.approx(-2.0, abs=1e-2)


def test_kurtosis_is_that_of_population_moments():
    values = np.array([[0.0, 0.0, 0.0, 0.0, 10.0]])  # variance 16, fourth moment 832
    assert kurtosis(values) == pytest.approx(832 / 256 - 3, rel=1e-13)
    assert kurtosis(values, excess=False) == pytest.approx(832 / 256, rel=1e-13)
    assert kurtosis(values - 1000.0) == pytest.approx(0.25, rel=1e-9)


@pytest.mark.parametrize("metric", [hoyer, kurtosis, near_zero_fraction, gini])
def test_a_matrix_of_several_pieces_is_measured_as_one(monkeypatch, metric):
    values = RNG.standard_normal((50, 6)) ** 3 + 0.2
    expected = float(metric(values))
    monkeypatch.setattr("pico_analyze.matrices.matrix._PIECE_ELEMENTS", 30)
    assert metric(values) == pytest.approx(expected, rel=1e-12)
    assert norm(values, kind="max_abs") == np.abs(values).max()
