"""What a matrix can be asked, against the same computed by numpy from the array."""

import numpy as np
import pytest
from closeness import assert_close

from pico_analyze.matrices import decompositions
from pico_analyze.matrices import matrix as module
from pico_analyze.matrices.factored import Factored
from pico_analyze.matrices.lazy import lazy
from pico_analyze.matrices.matrix import Dense

RNG = np.random.default_rng(0)
SHAPES = [(7, 3), (3, 7), (5, 5), (1, 4), (4, 1)]


def product(n_rows, n_cols, rank=2):
    return Factored(RNG.standard_normal((n_rows, rank)), RNG.standard_normal((n_cols, rank)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_means_and_products_are_those_of_the_array_in_double_precision(shape, dtype):
    array = RNG.standard_normal(shape).astype(dtype)
    wide, matrix = array.astype(np.float64), Dense(array)
    (means,) = matrix.column_means()
    for found, expected in [
        (means, wide.mean(axis=0)),
        (matrix.row_means(), wide.mean(axis=1)),
        (matrix.sample_covariance(), wide.T @ wide),
        (matrix.sample_gram(), wide @ wide.T),
        (matrix.energy(), np.square(wide).sum()),
        (matrix.frobenius(), np.linalg.norm(wide)),
        (matrix.centred().dense() + 1, wide - wide.mean(axis=0) + 1),
        (matrix.reduced() @ matrix.reduced().T, wide @ wide.T),
    ]:
        assert np.asarray(found).dtype == np.float64
        assert_close(found, expected, factor=64)  # sums of at most 7 terms


def test_features_of_a_dense_matrix_span_what_its_columns_do():
    for shape in SHAPES:
        matrix = Dense(np.ones(shape))
        assert (matrix.feature_dim, matrix.rank_bound, matrix.size) == (shape[1], min(shape), shape[0] * shape[1])


@pytest.mark.parametrize("shape", SHAPES)
def test_only_a_matrix_with_more_columns_than_rows_is_rotated_into_fewer(shape):
    array = RNG.standard_normal(shape)
    reduced = Dense(array).reduced()
    assert reduced.shape == (shape[0], min(shape))
    assert np.array_equal(reduced, array) == (shape[1] <= shape[0])


@pytest.mark.parametrize(
    ("bound", "shape", "lengths"),
    [
        (12, (5, 3), [4, 1]),
        (12, (4, 3), [4]),
        (12, (3, 13), [1, 1, 1]),  # a row is longer than the bound
        (12, (3, 12), [1, 1, 1]),
        (12, (4, 6), [2, 2]),
        (12, (30, 1), [12, 12, 6]),
    ],
)
def test_pieces_are_whole_rows_of_no_more_elements_than_agreed_upon(monkeypatch, bound, shape, lengths):
    monkeypatch.setattr(module, "_PIECE_ELEMENTS", bound)
    array = RNG.standard_normal(shape)
    pieces = list(Dense(array).pieces())
    assert [len(piece) for piece in pieces] == lengths
    assert np.array_equal(np.concatenate(pieces), array)


@pytest.mark.parametrize(
    ("shape", "problem"),
    [
        ((0, 4), "the matrix is empty (0 x 4)"),
        ((4, 0), "the matrix is empty (4 x 0)"),
        ((0, 0), "the matrix is empty (0 x 0)"),
        ((1, 1), None),
    ],
)
def test_a_matrix_without_entries_says_so(shape, problem):
    assert Dense(np.zeros(shape)).problem == problem


def test_entries_that_are_not_finite_are_counted():
    array = np.ones((3, 4))
    array[0, 0], array[1, 2], array[2, 3] = np.nan, np.inf, -np.inf
    assert Dense(array).problem == "3 entries are not finite"


@pytest.mark.parametrize(("second", "rank"), [(1.0, 2), (4.0, 2), (3.0, 1), (0.0, 1)])
def test_singular_values_up_to_the_tolerance_are_rounding(second, rank):
    """The tolerance of a 3 x 2 matrix is 3 epsilons of its largest singular value, here 1."""
    diagonal = np.zeros((3, 2))
    diagonal[0, 0], diagonal[1, 1] = 1.0, second * np.finfo(np.float64).eps if second != 1.0 else 1.0
    assert Dense(diagonal).rank == rank


def test_a_matrix_of_zeros_has_no_rank():
    assert Dense(np.zeros((3, 2))).rank == 0


@pytest.mark.parametrize(("spread", "varies"), [(2e-12, True), (5e-13, False), (0.0, False)])
def test_what_is_a_million_millionth_of_the_mean_is_no_variation(spread, varies):
    rows = 1 + spread * np.where(np.arange(100) % 2, 1, -1)
    assert Dense(np.stack([rows, rows], axis=1)).varies() == varies
    assert Factored(rows[:, None], np.ones((3, 1))).varies() == varies


def test_zeros_do_not_vary():
    assert not Dense(np.zeros((3, 2))).varies()


def test_a_norm_needs_no_decomposition_and_agrees_with_one_that_is_there(monkeypatch):
    matrix = product(9, 6)
    known = product(9, 6)
    expected = np.linalg.norm(known.singular_values)

    def refuse(_):
        raise AssertionError("decomposed for nothing")

    monkeypatch.setattr(decompositions, "divide_and_conquer", refuse)
    assert matrix.frobenius() == pytest.approx(np.linalg.norm(matrix.dense()), rel=1e-13)
    assert known.frobenius() == expected


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_vectors_are_those_of_numpy_up_to_sign(shape):
    array = RNG.standard_normal(shape)
    u, _, v = np.linalg.svd(array, full_matrices=False)
    k = min(shape)
    left, right = Dense(array).left_singular_vectors(k), Dense(array).right_singular_vectors(k)
    assert (left.shape, right.shape) == ((shape[0], k), (shape[1], k))
    assert_close(np.abs((left * u).sum(axis=0)), np.ones(k), factor=1000)  # gaps of random matrices are not tiny
    assert_close(np.abs((right.T * v).sum(axis=1)), np.ones(k), factor=1000)


def test_a_value_that_is_kept_is_computed_once_and_keeps_its_description():
    class Square:
        computed = 0

        @lazy
        def area(self):
            """How large it is."""
            self.computed += 1
            return 4

    square = Square()
    assert (square.area, square.area, square.computed) == (4, 4, 1)
    assert Square.area.__doc__ == "How large it is."
