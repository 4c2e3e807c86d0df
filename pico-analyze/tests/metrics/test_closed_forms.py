"""Values that follow from the definitions by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rank_facts import others

from pico_analyze.matrices.matrix import Dense
from pico_analyze.metrics.spec import METRICS

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=25)


def one_hot(n_rows, n_cols):
    matrix = np.zeros((n_rows, n_cols))
    matrix[1, 2] = -3.0
    return matrix


def orthogonal(n, rng):
    return np.linalg.qr(rng.standard_normal((n, n)))[0]


DIAGONAL = np.diag([4.0, 3.0, 2.0, 1.0])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("frobenius", math.sqrt(30.0)), ("nuclear", 10.0), ("spectral", 4.0), ("max_abs", 4.0)],
)
def test_norms_of_a_diagonal_matrix(kind, expected):
    assert METRICS.get("norm")(DIAGONAL, kind=kind).value == pytest.approx(expected, rel=1e-14)


def test_max_abs_sees_negative_entries():
    assert METRICS.get("norm")(np.array([[-5.0, 2.0]]), kind="max_abs").value == 5.0


def test_condition_number_of_a_diagonal_matrix():
    result = METRICS.get("condition_number")(DIAGONAL)
    assert result.value == pytest.approx(4.0, rel=1e-14)
    assert others(result.extra) == {"full": pytest.approx(4.0)} and result.extra["rank"] == 4.0


def test_condition_number_is_over_the_numerical_rank_and_infinite_over_all():
    deficient = np.diag([6.0, 3.0, 0.0])
    result = METRICS.get("condition_number")(deficient)
    assert (result.value, result.extra["rank"], result.extra["full"]) == (2.0, 2.0, math.inf)
    assert METRICS.get("condition_number")(deficient, over="all").value == math.inf


def test_the_numerical_rank_knows_the_precision_of_the_data():
    noisy = np.diag([1.0, 1e-9])
    assert METRICS.get("condition_number")(noisy).extra["rank"] == 2.0
    assert METRICS.get("condition_number")(noisy.astype(np.float32)).extra["rank"] == 1.0


@pytest.mark.parametrize("n", [1, 2, 7, 32])
def test_per_of_the_identity_is_1_and_of_rank_one_is_1_over_n(n):
    assert METRICS.get("per")(np.eye(n)).value == pytest.approx(1.0, abs=1e-12)
    assert METRICS.get("per")(np.ones((n, n))).value == pytest.approx(1.0 / n, abs=1e-12)


def test_per_counts_min_of_rows_and_columns():
    assert METRICS.get("per")(np.eye(3, 10)).value == pytest.approx(1.0, abs=1e-12)
    assert METRICS.get("per")(np.ones((3, 10))).value == pytest.approx(1 / 3, abs=1e-12)


def test_effective_rank_of_two_unequal_singular_values():
    # shares 3/4 and 1/4: entropy = ln 4 - (3/4)·ln 3
    result = METRICS.get("effective_rank")(np.diag([3.0, 1.0]))
    assert result.value == pytest.approx(math.exp(math.log(4) - 0.75 * math.log(3)), rel=1e-14)


def test_rankme_is_the_effective_rank_with_published_smoothing():
    shares = np.array([0.75, 0.25, 0.0]) + 1e-7
    expected = math.exp(-float(np.sum(shares * np.log(shares))))
    assert METRICS.get("rankme")(np.diag([3.0, 1.0, 0.0])).value == pytest.approx(expected, rel=1e-13)


def test_stable_rank_and_participation_ratio_of_a_diagonal_matrix():
    assert METRICS.get("stable_rank")(DIAGONAL).value == pytest.approx(30 / 16, rel=1e-14)
    squares = np.array([16.0, 9.0, 4.0, 1.0])
    expected = squares.sum() ** 2 / np.sum(squares**2)
    assert METRICS.get("participation_ratio")(DIAGONAL).value == pytest.approx(expected, rel=1e-14)


def test_participation_ratio_centres_activations_and_nothing_else():
    shifted = np.random.default_rng(0).standard_normal((50, 4)) + 100.0
    ratio = METRICS.get("participation_ratio")
    assert ratio(Dense(shifted)).value == pytest.approx(1.0, abs=0.01)  # the mean is the one large direction
    eigenvalues = np.linalg.eigvalsh(np.cov(shifted.T))
    expected = eigenvalues.sum() ** 2 / np.sum(eigenvalues**2)
    assert ratio(Dense(shifted, samples=True)).value == pytest.approx(expected, rel=1e-10)
    assert ratio(Dense(shifted), centre="yes").value == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("name", "params"), [("gini", {"corrected": True}), ("hoyer", {})])
def test_sparsity_of_constant_magnitude_is_0_and_of_one_entry_is_1(name, params):
    signs = np.sign(np.random.default_rng(0).standard_normal((6, 9)))
    assert METRICS.get(name)(0.3 * signs, **params).value == pytest.approx(0.0, abs=1e-12)
    assert METRICS.get(name)(one_hot(6, 9), **params).value == pytest.approx(1.0, abs=1e-12)


def test_gini_is_hurley_and_rickards_as_it_was_in_pico_analyze_1_0():
    assert METRICS.get("gini")(one_hot(6, 9)).value == pytest.approx(1 - 1 / 54, rel=1e-14)
    # Table I: 1 − 2·Σ |x|ₖ/‖x‖₁·(M − k + ½)/M over ascending magnitudes
    values = np.random.default_rng(1).standard_normal((3, 5))
    magnitudes = np.sort(np.abs(values.ravel()))
    table = 1 - 2 * sum(x / magnitudes.sum() * (15 - k + 0.5) / 15 for k, x in enumerate(magnitudes, start=1))
    assert METRICS.get("gini")(values).value == pytest.approx(table, rel=1e-12)


def test_gini_of_1_to_n():
    # mean absolute difference (n²-1)/(3n) over twice the mean (n+1)/2: (n-1)/(3n), of differing pairs alone 1/3
    values = np.random.default_rng(0).permutation(np.arange(1.0, 101.0)).reshape(10, 10)
    assert METRICS.get("gini")(values).value == pytest.approx(99 / 300, rel=1e-12)
    assert METRICS.get("gini")(values, corrected=True).value == pytest.approx(1 / 3, rel=1e-12)


def test_gini_over_several_chunks_equals_the_textbook_sum():
    values = np.abs(np.random.default_rng(0).standard_normal(200_003))
    ordered = np.sort(values)
    n = len(ordered)
    expected = np.sum((2 * np.arange(1, n + 1) - n - 1) * ordered) / (n * ordered.sum())
    assert METRICS.get("gini")(values[None, :]).value == pytest.approx(expected, rel=1e-12)


def test_near_zero_fraction_counts_by_each_scale():
    matrix = np.array([[0.0, 0.02, 1.0, -2.0]])
    fraction = METRICS.get("near_zero_fraction")
    assert fraction(matrix).value == 0.25  # 1 % of rms 1.118 = 0.0112
    assert fraction(matrix, relative_to="max", threshold=0.01).value == 0.5
    assert fraction(matrix, relative_to="none", threshold=1.0).value == 0.75
    assert fraction(np.zeros((2, 2))).value == 1.0


def test_kurtosis_of_two_values_is_minus_2():
    assert METRICS.get("kurtosis")(np.array([[1.0, -1.0, 1.0, -1.0]])).value == pytest.approx(-2.0, abs=1e-14)
    assert METRICS.get("kurtosis")(np.array([[1.0, -1.0]]), excess=False).value == pytest.approx(1.0, abs=1e-14)


def test_rank_slope_of_an_exact_power_law_spectrum():
    singular = np.arange(1, 41) ** -0.75  # eigenvalues i^-1.5
    result = METRICS.get("power_law_alpha")(np.diag(singular), method="rank")
    assert result.value == pytest.approx(1.5, rel=1e-10)
    assert result.extra["r2"] == pytest.approx(1.0, abs=1e-12)


def test_tail_exponent_of_pareto_quantiles():
    # Quantiles of p(x) ∝ x^-2.5, x ≥ 1: the maximum-likelihood exponent of 2,000 of them is 2.5 within its error.
    n = 2000
    eigenvalues = (1 - (np.arange(n) + 0.5) / n) ** (-1 / 1.5)
    result = METRICS.get("power_law_alpha")(np.diag(np.sqrt(np.sort(eigenvalues)[::-1][:400])))
    assert result.value == pytest.approx(2.5, abs=4 * result.extra["sigma"])
    assert result.extra["ks"] < 0.03


@pytest.mark.parametrize(
    ("name", "params"),
    [
        *(("cka", params) for params in ({}, {"debiased": True}, {"kernel": "rbf"}, {"batch": 16})),
        *((name, {}) for name in ("svcca", "pwcca", "mean_cca")),
    ],
)
def test_a_representation_is_like_itself(name, params):
    x = np.random.default_rng(3).standard_normal((64, 5))
    assert METRICS.get(name)(x, x.copy(), **params).value == pytest.approx(1.0, abs=1e-12)


def test_other_comparisons_of_equal_matrices():
    x = np.random.default_rng(3).standard_normal((64, 9))
    assert METRICS.get("procrustes")(x, x).value == pytest.approx(0.0, abs=1e-12)
    assert METRICS.get("procrustes")(x, x, form="similarity").value == pytest.approx(1.0, abs=1e-12)
    assert METRICS.get("rsa")(x, x).value == pytest.approx(1.0, abs=1e-12)
    assert METRICS.get("mutual_knn")(x, x).value == 1.0
    assert METRICS.get("subspace_overlap")(x, x, side="right").value == pytest.approx(1.0, abs=1e-12)
    assert METRICS.get("cosine")(x, x).value == pytest.approx(1.0, abs=1e-14)
    assert METRICS.get("relative_change")(x, x).value == 0.0


def test_cosine_and_relative_change_of_opposites_and_doubles():
    x = np.random.default_rng(3).standard_normal((6, 9))
    assert METRICS.get("cosine")(x, -2 * x).value == pytest.approx(-1.0, abs=1e-14)
    assert METRICS.get("relative_change")(3 * x, x).value == pytest.approx(2.0, rel=1e-14)


def test_orthogonal_matrices_have_angular_procrustes_and_overlap_of_their_dimensions():
    x = np.zeros((8, 2))
    y = np.zeros((8, 2))
    x[:4, 0], y[:4, 1] = [1, -1, 1, -1], [1, 1, -1, -1]  # uncorrelated columns, mean zero
    assert METRICS.get("procrustes")(x, y, form="angular").value == pytest.approx(math.pi / 2, rel=1e-12)
    assert METRICS.get("procrustes")(x, y).value == pytest.approx(2.0, rel=1e-12)
    assert METRICS.get("subspace_overlap")(x, y, k=1).value == pytest.approx(0.0, abs=1e-12)


@few
@given(seed=seeds, n=st.integers(2, 12))
def test_the_spectrum_of_an_orthogonal_matrix_is_flat(seed, n):
    matrix = orthogonal(n, np.random.default_rng(seed))
    assert METRICS.get("per")(matrix).value == pytest.approx(1.0, abs=1e-12)
    assert METRICS.get("condition_number")(matrix).value == pytest.approx(1.0, abs=1e-12)
    assert METRICS.get("stable_rank")(matrix).value == pytest.approx(n, rel=1e-12)
    assert METRICS.get("norm")(matrix, kind="nuclear").value == pytest.approx(n, rel=1e-12)
