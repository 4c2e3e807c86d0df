"""Metrics of singular values: what stands beside them, ranks zero and one, and the smoothing of RankMe."""

from __future__ import annotations

import math

import numpy as np
import pytest
from rank_facts import others

from pico_analyze.matrices.factored import Concatenated, Factored
from pico_analyze.matrices.matrix import activations
from pico_analyze.metrics.norms import norm
from pico_analyze.metrics.power_law import power_law_alpha
from pico_analyze.metrics.spectrum import (
    condition_number,
    effective_rank,
    participation_ratio,
    per,
    rankme,
    stable_rank,
)

RNG = np.random.default_rng(71)
EPS = np.finfo(float).eps


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (2, 5), (5, 2)])
def test_the_zero_matrix_has_rank_0_and_no_spectrum(shape):
    zero = np.zeros(shape)
    for metric in (condition_number, effective_rank, per, stable_rank, participation_ratio, rankme):
        result = metric(zero)
        assert math.isnan(result) and result.reason == "all entries are zero"
        assert result.extra == {"rank": 0, "tolerance": 0, "stored": "float64"}


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (6, 1), (4, 6)])
@pytest.mark.parametrize("scale", [1e-100, 1.0, 1e100])
def test_one_direction_however_small_is_one(shape, scale):
    matrix = np.outer(RNG.standard_normal(shape[0]), RNG.standard_normal(shape[1])) * scale
    m = min(shape)
    assert effective_rank(matrix) == pytest.approx(1, abs=1e-12) and effective_rank(matrix).extra["rank"] == 1
    assert per(matrix) == pytest.approx(1 / m, abs=1e-12)
    assert others(per(matrix).extra) == {"effective_rank": pytest.approx(1, abs=1e-12)}
    assert stable_rank(matrix) == pytest.approx(1, abs=1e-12)
    assert participation_ratio(matrix) == pytest.approx(1, abs=1e-12)
    full = 1 if m == 1 else math.inf
    assert condition_number(matrix) == 1 and others(condition_number(matrix).extra) == {"full": full}
    assert condition_number(matrix, over="all") == full
    for kind in ("nuclear", "spectral", "frobenius"):
        assert norm(matrix, kind=kind) == pytest.approx(np.linalg.norm(matrix / scale) * scale, rel=1e-12, abs=0)


def test_the_condition_is_over_directions_above_rounding_and_over_all_of_them():
    for smallest, rank in ((8 * EPS, 1), (12 * EPS, 2), (0.25, 2)):  # rounding is max(8, 2)·eps of the largest
        matrix = np.zeros((8, 2))
        matrix[0, 0], matrix[1, 1] = 1.0, smallest
        result = condition_number(matrix)
        assert result.extra["rank"] == effective_rank(matrix).extra["rank"] == per(matrix).extra["rank"] == rank
        assert result == pytest.approx(1.0 if rank == 1 else 1 / smallest, rel=1e-9)
        assert result.extra["full"] == condition_number(matrix, over="all")
        assert condition_number(matrix, over="all") == (math.inf if rank == 1 else pytest.approx(1 / smallest))


def test_entropy_and_squares_of_the_shares_by_hand():
    matrix = np.diag([3.0, 1.0])  # shares 3/4 and 1/4
    entropy = math.log(4) - 0.75 * math.log(3)
    assert effective_rank(matrix) == pytest.approx(math.exp(entropy), rel=1e-14)
    assert effective_rank(matrix).extra["rank"] == 2 and others(effective_rank(matrix).extra) == {}
    assert per(matrix) == pytest.approx(math.exp(entropy) / 2, rel=1e-14)
    assert others(per(matrix).extra) == {"effective_rank": pytest.approx(math.exp(entropy), rel=1e-14)}
    assert stable_rank(matrix) == pytest.approx(10 / 9, rel=1e-14) and others(stable_rank(matrix).extra) == {}
    assert participation_ratio(matrix) == pytest.approx(100 / 82, rel=1e-14)
    deficient = np.diag([3.0, 1.0, 0.0])  # a direction that is not there has no share, but is counted by per
    for metric in (effective_rank, stable_rank, participation_ratio):
        assert metric(deficient) == pytest.approx(metric(matrix), rel=1e-14)
    assert per(deficient) == pytest.approx(math.exp(entropy) / 3, rel=1e-14) and per(deficient).extra["rank"] == 2


@pytest.mark.parametrize("epsilon", [0.0, 1e-12, 1e-7, 0.1])
def test_rankme_smooths_each_share_also_those_of_directions_that_are_not_there(epsilon):
    shares = np.array([0.75, 0.25, 0.0, 0.0]) + epsilon
    expected = math.exp(-sum(p * math.log(p) for p in shares if p))  # p·ln p is 0 at 0
    left, right = np.zeros((4, 2)), np.zeros((5, 2))
    left[:2], right[:2] = np.diag([3.0, 1.0]), np.eye(2)
    dense = left @ right.T
    parts = [Factored(left[:, :1].copy(), right[:3, :1].copy()), Factored(left[:, 1:].copy(), right[:2][:, 1:].copy())]
    for matrix in (dense, dense.T, 1e-100 * dense, Factored(left, right), Concatenated(parts)):
        assert rankme(matrix, epsilon=epsilon) == pytest.approx(expected, rel=1e-13)
    assert rankme(np.eye(3), epsilon=epsilon) == pytest.approx((1 / 3 + epsilon) ** (-1 - 3 * epsilon), rel=1e-12)


CENTRED = [("auto", True), ("yes", True), ("yes", False)]
AS_IT_IS = [("auto", False), ("no", True), ("no", False)]
SPECTRA = [condition_number, effective_rank, participation_ratio, per, power_law_alpha, rankme, stable_rank]


@pytest.mark.parametrize(("centre", "samples"), [*CENTRED, *AS_IT_IS])
@pytest.mark.parametrize("metric", SPECTRA)
def test_the_mean_is_subtracted_where_it_is_asked_for_or_rows_are_samples(metric, centre, samples):
    x = RNG.standard_normal((40, 12)) * np.linspace(1, 3, 12) + 4.0
    matrix = activations(x) if samples else x
    expected = x - x.mean(axis=0) if (centre, samples) in CENTRED else x
    value = metric(matrix, centre=centre)
    assert value == pytest.approx(float(metric(expected, centre="no")), rel=1e-9)
    assert value != pytest.approx(float(metric(x + 1.0, centre="no")), rel=1e-3)


def test_centred_squares_are_eigenvalues_of_the_covariance():
    x = RNG.standard_normal((20, 3)) * [1, 2, 3] + 4.0
    eigenvalues = np.linalg.eigvalsh(np.cov(x.T))
    rows = activations(x)
    assert participation_ratio(rows) == pytest.approx(eigenvalues.sum() ** 2 / np.sum(eigenvalues**2), rel=1e-10)
    assert stable_rank(rows) == pytest.approx(eigenvalues.sum() / eigenvalues[-1], rel=1e-10)
    assert condition_number(rows) == pytest.approx(math.sqrt(eigenvalues[-1] / eigenvalues[0]), rel=1e-10)
    shares = np.sqrt(eigenvalues) / np.sqrt(eigenvalues).sum()
    assert effective_rank(rows) == pytest.approx(math.exp(-np.sum(shares * np.log(shares))), rel=1e-10)
    assert rankme(rows) == rankme(x) != pytest.approx(float(rankme(rows, centre="auto")), rel=1e-3)


@pytest.mark.parametrize(("centre", "samples"), [*CENTRED, *AS_IT_IS])
@pytest.mark.parametrize("metric", [participation_ratio, effective_rank, stable_rank])
def test_where_nothing_varies_there_is_nothing_to_spread_over(metric, centre, samples):
    def ratio(rows):
        return metric(activations(rows) if samples else rows, centre=centre)

    x = RNG.standard_normal((2, 3))
    one, constant, zero, two = ratio(x[:1]), ratio(np.tile(x[:1], (5, 1))), ratio(np.zeros((5, 3))), ratio(x)
    if (centre, samples) in CENTRED:
        assert one.reason == "one sample has no variance" and two == pytest.approx(1, abs=1e-12)
        assert constant.reason == zero.reason == "no column varies over the rows"
    else:
        assert one == pytest.approx(1, abs=1e-12) and constant == pytest.approx(1, abs=1e-12)
        assert zero.reason == "all entries are zero" and 1 < two < 2


def test_circuits_have_the_spectrum_of_their_product():
    parts = [Factored(RNG.standard_normal((9, 2)), RNG.standard_normal((6, 2))) for _ in range(2)]
    for matrix in (parts[0], Concatenated(parts)):
        for metric in (effective_rank, per, stable_rank, participation_ratio, condition_number):
            result, expected = metric(matrix), metric(matrix.dense())
            assert result == pytest.approx(expected, rel=1e-9)
            assert others(result.extra) == pytest.approx(others(expected.extra), rel=1e-9)
            assert result.extra["rank"] == expected.extra["rank"]
        for kind in ("frobenius", "nuclear", "spectral", "max_abs"):
            assert norm(matrix, kind=kind) == pytest.approx(norm(matrix.dense(), kind=kind), rel=1e-9)
