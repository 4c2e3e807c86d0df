"""Products of thin factors, alone and side by side, answer as the matrix that they multiply out to."""

import numpy as np
import pytest
from closeness import assert_close

from pico_analyze.matrices import matrix as module
from pico_analyze.matrices.factored import Concatenated, Factor, Factored
from pico_analyze.matrices.matrix import Dense

RNG = np.random.default_rng(0)
N = 6


def factor(n_rows, rank, dtype=np.float64):
    return Factor(RNG.standard_normal((n_rows, rank)).astype(dtype))


SHARED = factor(N, 2)
MATRICES = {
    "a tall product": Factored(factor(N, 2), factor(3, 2)),
    "a wide product": Factored(factor(N, 3), factor(11, 3), samples=True),
    "factors wider than the product": Factored(factor(N, 7), factor(4, 7)),
    "a product in single precision": Factored(factor(N, 2, np.float32), factor(5, 2, np.float32)),
    "one alone": Concatenated([Factored(factor(N, 2), factor(4, 2), samples=True)]),
    "several": Concatenated([Factored(factor(N, 2), factor(p, 2)) for p in (3, 5, 2)]),
    "several of one left factor": Concatenated([Factored(SHARED, factor(p, 2), samples=True) for p in (3, 5, 4)]),
    "some of one left factor": Concatenated(
        [Factored(SHARED, factor(3, 2)), Factored(factor(N, 3), factor(4, 3)), Factored(SHARED, factor(5, 2))]
    ),
    "more directions than rows": Concatenated([Factored(factor(N, 4), factor(5, 4)) for _ in range(3)]),
}
each = pytest.mark.parametrize("matrix", MATRICES.values(), ids=MATRICES)


def multiplied_out(matrix):
    parts = matrix.parts if isinstance(matrix, Concatenated) else [matrix]
    return np.hstack([part.left.array.astype(np.float64) @ part.right.array.astype(np.float64).T for part in parts])


@each
def test_all_that_is_asked_is_as_of_the_dense_matrix(matrix):
    array = multiplied_out(matrix)
    dense, scale = Dense(array), np.abs(array).max()
    a, g = matrix.sample_form()
    assert matrix.shape == array.shape and matrix.size == array.size
    rows = RNG.standard_normal((2, N))
    for found, expected in [
        (np.hstack(list(matrix.column_means())) + scale, array.mean(axis=0) + scale),
        (matrix.row_means() + scale, array.mean(axis=1) + scale),
        (matrix.energy(), dense.energy()),
        (matrix.frobenius(), dense.frobenius()),
        (a @ g @ a.T, array @ array.T),
        (matrix.sample_gram(), array @ array.T),
        (matrix.sample_covariance(), a.T @ a),
        (matrix.reduced() @ matrix.reduced().T, array @ array.T),
        (np.hstack(list(matrix.left_product(rows))), rows @ array),
    ]:
        assert_close(found, expected, factor=500)  # sums of up to 72 products, on two ways
    assert_close(matrix.dense(), array, factor=50, dtype=matrix.dtype)
    assert_close(matrix.centred().dense(), array - array.mean(axis=0), factor=500, dtype=matrix.dtype)
    assert_close(matrix.take(np.array([5, 0, 0])).dense(), array[[5, 0, 0]], factor=50, dtype=matrix.dtype)


@each
def test_singular_values_and_vectors_are_those_of_the_dense_matrix(matrix):
    u, s, v = np.linalg.svd(multiplied_out(matrix), full_matrices=False)
    k = matrix.rank
    padded = np.zeros_like(s)
    padded[: len(matrix.singular_values)] = matrix.singular_values
    assert_close(padded, s, factor=100)
    left, right = matrix.left_singular_vectors(k), matrix.right_singular_vectors(k)
    # A vector is as exact as its singular value is far from the next: a thousand epsilons are plenty here.
    assert_close(np.abs((left * u[:, :k]).sum(axis=0)), np.ones(k), factor=1000)
    assert_close(np.abs((right.T * v[:k]).sum(axis=1)), np.ones(k), factor=1000)


@pytest.mark.parametrize(
    ("name", "rank_bound", "feature_dim"),
    [
        ("a tall product", 2, 2),
        ("a wide product", 3, 3),
        ("factors wider than the product", 4, 4),
        ("one alone", 2, 2),
        ("several", 6, 6),
        ("several of one left factor", 2, 2),
        ("some of one left factor", 5, 5),
        ("more directions than rows", 6, 12),
    ],
)
def test_no_larger_rank_is_possible_and_features_span_what_the_factors_let_them(name, rank_bound, feature_dim):
    matrix = MATRICES[name]
    assert (matrix.rank_bound, matrix.feature_dim, matrix.rank) == (rank_bound, feature_dim, rank_bound)


def test_features_span_no_more_dimensions_than_there_are_columns():
    matrix = Concatenated([Factored(factor(9, 4), factor(2, 4)) for _ in range(2)])
    assert (matrix.rank_bound, matrix.feature_dim) == (4, 4)
    assert Concatenated([Factored(factor(2, 3), factor(5, 3))]).feature_dim == 3


def test_of_a_matrix_with_more_directions_than_rows_no_vectors_are_computed_that_nobody_asked_for(monkeypatch):
    shapes, real = [], module.thin_svd
    monkeypatch.setattr(module, "thin_svd", lambda core: shapes.append(core.shape) or real(core))
    for matrix in (MATRICES["more directions than rows"], MATRICES["several of one left factor"]):
        matrix.left_singular_vectors(1)
    assert shapes == [(N, N), (N, 2)]


@pytest.mark.parametrize("side", ["left", "right"])
def test_entries_that_are_not_finite_are_counted_on_both_sides_and_once_where_they_are_shared(side):
    arrays = {"left": RNG.standard_normal((4, 2)), "right": RNG.standard_normal((3, 2))}
    arrays[side][0, 1], arrays[side][2, 0] = np.nan, np.inf
    single = Factored(arrays["left"], arrays["right"])
    assert single.problem == "2 entries are not finite"
    assert Concatenated([single, Factored(single.left, single.right)]).problem == "2 entries are not finite"
    apart = Factored(arrays["left"].copy(), arrays["right"].copy())
    assert Concatenated([single, apart]).problem == "4 entries are not finite"


def test_bad_entries_of_one_factor_do_not_make_up_for_those_of_the_other():
    bad = np.full((2, 1), np.nan)
    assert Factored(bad, bad.copy()).problem == "4 entries are not finite"


def test_rows_are_units_unless_they_are_said_to_be_samples():
    left, right = factor(4, 2), factor(3, 2)
    assert not Factored(left, right).samples
    assert not Concatenated([Factored(left, right)]).samples
    rng = np.random.default_rng(1)
    for matrix in (Factored(left, right, samples=True), Concatenated([Factored(left, right, samples=True)])):
        derived = [matrix, matrix.centred(), matrix.take(np.array([0])), matrix.randomised(rng)]
        assert all(one.samples for one in derived)


@pytest.mark.parametrize("rows", [(4, 5), (5, 4, 4), (4, 5, 6)])
def test_matrices_of_different_numbers_of_rows_are_not_put_side_by_side(rows):
    with pytest.raises(ValueError, match="need the same number of rows"):
        Concatenated([Factored(factor(n, 2), factor(3, 2)) for n in rows])


def test_nothing_is_not_put_side_by_side():
    with pytest.raises(ValueError, match="nothing to concatenate"):
        Concatenated([])


def test_what_resamples_and_centred_matrices_have_in_common_is_computed_once():
    matrix = Concatenated([Factored(SHARED, factor(3, 2), samples=True) for _ in range(2)])
    _, inner = matrix.sample_form()
    assert matrix.take(np.array([1, 0])).sample_form()[1] is inner
    assert matrix.centred().sample_form()[1] is inner
    assert matrix.centred() is matrix.centred()


def test_random_factors_have_the_mean_square_of_those_they_stand_for():
    left, right = np.full((500, 4), 3.0), np.full((400, 4), 0.25, np.float32)
    drawn = Concatenated([Factored(left, right)]).randomised(np.random.default_rng(0)).parts[0]
    assert drawn.left.array.std() == pytest.approx(3.0, rel=0.1) and drawn.left.array.dtype == np.float64
    assert drawn.right.array.std() == pytest.approx(0.25, rel=0.1) and drawn.right.array.dtype == np.float32
